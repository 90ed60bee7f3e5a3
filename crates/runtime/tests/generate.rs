//! The generation loop: what ends it, what it says, and that its text is its tokens'.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{engine, model, session, tokenizer};
use onebit_kernels::Kernels;
use onebit_runtime::{
    ChatTemplate, Conversation, ErrorKind, GenerateOptions, Generation, Message, Output, Piece,
    RuntimeError, SamplingOptions, Session, StopReason, TextFiles, Tokenizer, generate,
};

struct Bench {
    tokenizer: Tokenizer,
    session: Session,
}

fn bench(style: &str) -> Bench {
    let engine = engine(&model(style), Kernels::best(), 2);
    Bench {
        tokenizer: tokenizer(style),
        session: session(&engine, 96, 8),
    }
}

impl Bench {
    fn prompt(&self) -> Vec<u32> {
        self.tokenizer.encode("once upon a time", true).unwrap()
    }

    /// Generates from an empty session; also what was passed on, piece by piece.
    fn run(&mut self, options: &GenerateOptions) -> (Generation, Vec<(Option<u32>, String)>) {
        self.session.truncate(0);
        let mut pieces = Vec::new();
        let mut on_piece = |piece: Piece<'_>| pieces.push((piece.id, piece.text.to_owned()));
        let output = Output {
            on_piece: &mut on_piece,
            interrupt: &AtomicBool::new(false),
        };
        let prompt = self.prompt();
        let generation = generate(
            &mut self.session,
            Some(&self.tokenizer),
            &prompt,
            options,
            output,
        )
        .unwrap();
        (generation, pieces)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap()
    }
}

fn greedy(predict: usize) -> GenerateOptions {
    GenerateOptions {
        predict: Some(predict),
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    }
}

/// Sampling hot enough for varied tokens, which the random model would not give greedily.
fn hot(predict: usize, seed: u64) -> GenerateOptions {
    let sampling = SamplingOptions {
        seed,
        temperature: 20.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..Default::default()
    };
    GenerateOptions {
        sampling,
        ..greedy(predict)
    }
}

#[test]
fn text_is_what_the_tokens_say() {
    for style in ["llama3", "qwen", "llama2_metaspace"] {
        let mut bench = bench(style);
        for seed in 0..8 {
            let (found, pieces) = bench.run(&hot(30, seed));
            assert_eq!(found.stop, StopReason::Length);
            assert_eq!(found.ids.len(), 30);
            assert_eq!(found.text, bench.decode(&found.ids));
            let said: String = pieces.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(said, found.text);
            let ids: Vec<u32> = pieces.iter().filter_map(|(id, _)| *id).collect();
            assert_eq!(ids, found.ids);
            // The same seed, the same tokens.
            assert_eq!(bench.run(&hot(30, seed)).0.ids, found.ids);
        }
        assert_ne!(bench.run(&hot(30, 0)).0.ids, bench.run(&hot(30, 1)).0.ids);
    }
}

#[test]
fn continued_text_follows_the_prompt() {
    for style in ["llama3", "llama2_metaspace"] {
        let mut bench = bench(style);
        for seed in 0..8 {
            let options = GenerateOptions {
                continue_text: true,
                ..hot(10, seed)
            };
            let (found, _) = bench.run(&options);
            let all = [bench.prompt(), found.ids].concat();
            assert_eq!(
                "once upon a time".to_owned() + &found.text,
                bench.decode(&all)
            );
        }
    }
}

#[test]
fn eos_ends_the_text_and_is_not_part_of_it() {
    let mut bench = bench("llama3");
    let (all, _) = bench.run(&hot(12, 3));
    let eos = all.ids[7];
    let first = all.ids.iter().position(|&id| id == eos).unwrap();
    let options = GenerateOptions {
        eos: vec![9999, eos],
        ..hot(12, 3)
    };
    let (found, _) = bench.run(&options);
    assert_eq!(
        (found.stop, &found.ids[..]),
        (StopReason::Eos, &all.ids[..=first])
    );
    assert_eq!(found.text, bench.decode(&all.ids[..first]));
    let (found, _) = bench.run(&GenerateOptions {
        ignore_eos: true,
        ..options
    });
    assert_eq!((found.stop, found.ids), (StopReason::Length, all.ids));
}

#[test]
fn stop_strings_cut_the_text() {
    let mut bench = bench("llama2_metaspace");
    for seed in 0..20 {
        let (all, _) = bench.run(&hot(30, seed));
        let chars: Vec<char> = all.text.chars().collect();
        // A stop string from the middle of the text, across tokens, and one that never comes.
        let stop: String = chars[chars.len() / 2..].iter().take(3).collect();
        let options = GenerateOptions {
            stop: vec!["never \u{1}".into(), stop.clone()],
            ..hot(30, seed)
        };
        let (found, pieces) = bench.run(&options);
        let expected = all.text.split(&stop).next().unwrap();
        assert_eq!(
            (found.stop, found.text.as_str()),
            (StopReason::Stop, expected)
        );
        assert!(all.ids.starts_with(&found.ids));
        assert_eq!(
            pieces
                .iter()
                .map(|(_, text)| text.as_str())
                .collect::<String>(),
            expected
        );
    }
    let empty = GenerateOptions {
        stop: vec![String::new()],
        ..greedy(1)
    };
    let output = Output {
        on_piece: &mut |_| {},
        interrupt: &AtomicBool::new(false),
    };
    let error = generate(&mut bench.session, None, &[1], &empty, output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
}

#[test]
fn a_full_context_ends_the_text() {
    let mut bench = bench("llama3");
    let prompt = bench.prompt().len();
    let endless = GenerateOptions {
        predict: None,
        ..hot(0, 1)
    };
    let (found, _) = bench.run(&endless);
    // The last token needs no place of its own.
    assert_eq!(
        (found.stop, found.ids.len()),
        (StopReason::Length, 96 - prompt + 1)
    );
    assert_eq!(bench.session.remaining(), 0);
    let (found, pieces) = bench.run(&greedy(0));
    assert_eq!(
        (found.stop, found.ids.len(), pieces.len()),
        (StopReason::Length, 0, 0)
    );
}

#[test]
fn interrupts_leave_what_there_is() {
    let mut bench = bench("llama3");
    let prompt = bench.prompt();
    let (interrupt, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut on_piece = |_: Piece<'_>| {
        if count.fetch_add(1, Ordering::Relaxed) == 4 {
            interrupt.store(true, Ordering::Relaxed);
        }
    };
    let output = Output {
        on_piece: &mut on_piece,
        interrupt: &interrupt,
    };
    let found = generate(
        &mut bench.session,
        Some(&bench.tokenizer),
        &prompt,
        &hot(50, 1),
        output,
    )
    .unwrap();
    assert_eq!((found.stop, found.ids.len()), (StopReason::Interrupted, 5));
    assert!(bench.run(&hot(50, 1)).0.ids.starts_with(&found.ids));
    // During the prompt.
    bench.session.truncate(0);
    let output = Output {
        on_piece: &mut |_| {},
        interrupt: &AtomicBool::new(true),
    };
    let found = generate(&mut bench.session, None, &prompt, &greedy(5), output).unwrap();
    assert_eq!((found.stop, found.ids.len()), (StopReason::Interrupted, 0));
    assert!(bench.session.tokens().is_empty());
}

#[test]
fn tokens_need_no_tokenizer() {
    let mut bench = bench("llama3");
    let with = bench.run(&greedy(8)).0;
    bench.session.truncate(0);
    let prompt = bench.prompt();
    let output = Output {
        on_piece: &mut |_| {},
        interrupt: &AtomicBool::new(false),
    };
    let without = generate(&mut bench.session, None, &prompt, &greedy(8), output).unwrap();
    assert_eq!((without.ids, without.text), (with.ids, String::new()));
    let timings = without.timings;
    assert!(timings.ttft_s > 0.0 && timings.prefill_tok_s > 0.0 && timings.decode_tok_s > 0.0);
    assert!(timings.decode_ms_p50 <= timings.decode_ms_p95);
    assert!(timings.decode_ms_p95 <= timings.decode_ms_p99);
}

#[test]
fn conversations_run_only_what_is_new() {
    let mut bench = bench("llama2_metaspace");
    let file = std::sync::Arc::clone(bench.session.engine().model().file());
    let template = ChatTemplate::from_files(&TextFiles::from_packed(&file).unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(
        Tokenizer::from_packed(&file).unwrap().len(),
        bench.tokenizer.len()
    );
    let mut chat = Conversation::new(template);
    let answer = |chat: &mut Conversation, session: &mut Session| {
        let output = Output {
            on_piece: &mut |_| {},
            interrupt: &AtomicBool::new(false),
        };
        chat.answer(session, &bench.tokenizer, &greedy(4), output)
    };
    chat.push(Message::new("user", "hello little fox"));
    answer(&mut chat, &mut bench.session).unwrap();
    assert_eq!(chat.messages().len(), 2);
    let first = bench.session.tokens().to_vec();
    chat.push(Message::new("user", "and then?"));
    let prompt = chat.prompt(&bench.tokenizer).unwrap();
    // The opening of the conversation is in the cache already.
    let shared = first
        .iter()
        .zip(&prompt)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(shared > 8);
    let second = answer(&mut chat, &mut bench.session).unwrap();

    let mut fresh = session(bench.session.engine(), 96, 8);
    let output = Output {
        on_piece: &mut |_| {},
        interrupt: &AtomicBool::new(false),
    };
    let expected = generate(
        &mut fresh,
        Some(&bench.tokenizer),
        &prompt,
        &greedy(4),
        output,
    )
    .unwrap();
    assert_eq!(second.ids, expected.ids);

    // Too long: refused, and nothing has changed.
    let (messages, tokens) = (chat.messages().len(), bench.session.tokens().len());
    chat.push(Message::new("user", &"fox ".repeat(200)));
    let error = answer(&mut chat, &mut bench.session).unwrap_err();
    assert!(matches!(
        error,
        RuntimeError::ContextTooSmall { context: 96, .. }
    ));
    chat.pop();
    assert_eq!(
        (chat.messages().len(), bench.session.tokens().len()),
        (messages, tokens)
    );
    chat.clear();
    assert!(matches!(
        answer(&mut chat, &mut bench.session),
        Err(RuntimeError::Messages(_))
    ));
}
