//! Conversations keep the tokens that their answers were generated with.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use common::{engine, model, session, tokenizer};
use onebit_kernels::Kernels;
use onebit_runtime::{
    ChatTemplate, Conversation, GenerateOptions, Message, Output, SamplingOptions, Session,
    Tokenizer,
};

const TEMPLATE: &str = "{% for m in messages %}\n\n### {{ m.role }}\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}\n\n### assistant\n{% endif %}";

fn answer(
    conversation: &mut Conversation,
    session: &mut Session,
    tokenizer: &Tokenizer,
    seed: u64,
) -> (Vec<u32>, usize) {
    let options = GenerateOptions {
        predict: Some(12),
        ignore_eos: true,
        sampling: SamplingOptions {
            temperature: 1.0,
            seed,
            ..SamplingOptions::default()
        },
        ..GenerateOptions::default()
    };
    let output = Output {
        on_piece: &mut |_| (),
        interrupt: &AtomicBool::new(false),
    };
    conversation.push(Message::new("user", "go on"));
    let answer = conversation.answer(session, tokenizer, &options, output);
    let answer = answer.unwrap();
    (answer.ids, answer.prefilled)
}

#[test]
fn answers_of_unusual_tokens_are_not_computed_again() {
    let engine = engine(&model("llama3"), Kernels::best(), 1);
    let tokenizer = tokenizer("llama3");
    let template = ChatTemplate::new(TEMPLATE, &BTreeMap::new()).unwrap();
    let turn = tokenizer
        .encode("\n\n### user\ngo on\n\n### assistant\n", false)
        .unwrap()
        .len();
    let (mut unusual, mut kept) = (0, 0);
    for seed in 0..20 {
        let mut session = session(&engine, 256, 32);
        let mut conversation = Conversation::new(template.clone());
        let (ids, first) = answer(&mut conversation, &mut session, &tokenizer, seed);
        assert_eq!(first, turn);
        let text = tokenizer.decode(&ids, false).unwrap();
        let encoded_anew = tokenizer.encode(&text, false).unwrap();
        let before = session.tokens().to_vec();
        let (_, second) = answer(&mut conversation, &mut session, &tokenizer, seed);
        if encoded_anew == ids {
            continue;
        }
        unusual += 1;
        // Its last token had not run yet.
        if second == turn + 1 {
            kept += 1;
            assert_eq!(session.tokens()[..before.len()], before);
            assert_eq!(session.tokens()[before.len()], ids[11]);
        }
    }
    assert!(unusual > 5, "{unusual} of 20 answers are unusual");
    // In the others a special token is left out of the text, or the text does not divide at their end.
    assert!(kept * 2 > unusual, "{kept} of {unusual}");
}
