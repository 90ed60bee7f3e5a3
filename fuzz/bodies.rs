//! What each fuzz target does with its bytes, in files of their own so that ordinary tests run the same code over seeds
//! and changed seeds on stable Rust.
//!
//! Each takes any bytes, and panics when something is wrong with the program rather than with the bytes.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use onebit_convert::{Options, convert};
use onebit_format::{AlignedBytes, Index, PackedFile};
use onebit_kernels::Kernels;
use onebit_model::{KvOptions, KvType, Model};
use onebit_runtime::{
    ChatTemplate, Engine, Message, Pool, RenderOptions, Session, SessionOptions, TextFiles,
    Tokenizer,
};
use sha2::{Digest, Sha256};

/// A body by its name, which is also the name of the fuzz target.
pub(crate) type Body = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: &[Body] = &[
    ("packed", packed),
    ("checkpoint", checkpoint),
    ("config", config),
    ("index_json", index_json),
    ("tokenizer", tokenizer),
    ("tokenizer_compact", tokenizer_compact),
    ("tokenizer_config", tokenizer_config),
    ("template", template),
    ("messages", messages),
    ("ids", ids),
    ("state", state),
];

/// A packed file: views every tensor, and where it opens as a model, runs two tokens and tokenizes a text.
pub(crate) fn packed(data: &[u8]) {
    let Ok(index) = Index::parse(data) else {
        return;
    };
    let bytes = AlignedBytes::from(data);
    for name in index.meta().matrices.keys() {
        let matrix = index
            .matrix(&bytes, name)
            .expect("a valid file has its matrices");
        let mut row = vec![0.0; matrix.cols()];
        matrix.decode_row(matrix.rows() - 1, &mut row);
    }
    for name in index.meta().vectors.keys() {
        index
            .vector(&bytes, name)
            .expect("a valid file has its vectors");
    }
    for name in index.meta().blobs.keys() {
        index
            .blob(&bytes, name)
            .expect("a valid file has its blobs");
    }
    drop(index.check_hashes(&bytes));
    let file = PackedFile::from_bytes(bytes).expect("what parses opens");
    if let Ok(files) = TextFiles::from_packed(&file) {
        text(&files);
    }
    let Ok(model) = Model::from_file(Arc::new(file)) else {
        return;
    };
    static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new(1).expect("a thread")));
    let options = SessionOptions::new(model.spec()).context(4, model.spec());
    let engine = Engine::new(Arc::new(model), Kernels::best(), POOL.clone());
    let mut session = engine.session(options).expect("a small context fits");
    let vocab = engine.model().spec().vocab;
    let last = u32::try_from(vocab - 1).expect("a vocabulary of this size");
    let position = session.prefill(&[0, last]).expect("two tokens run");
    assert_eq!(position.logits.len(), vocab);
}

/// A tokenizer that was accepted: it may fail, but not panic.
fn text(files: &TextFiles<'_>) {
    const TEXT: &str = " Once upon a time, 1234567 \u{1f999}\u{0} e\u{301} <|end|>\n\n";
    let Ok(tokenizer) = Tokenizer::new(files) else {
        return;
    };
    if let Ok(ids) = tokenizer.encode(TEXT, true) {
        drop(tokenizer.decode(&ids, false));
    }
    drop(tokenizer.decode(&[0, 1, 5, u32::MAX], true));
    let messages = [Message::new("system", "s"), Message::new("user", "u")];
    if let Ok(Some(template)) = ChatTemplate::from_files(files) {
        drop(template.render(&messages, &RenderOptions::default()));
    }
}

/// Weights: a checkpoint whose `model.safetensors` is these bytes gives a valid output, or an error and nothing.
pub(crate) fn checkpoint(data: &[u8]) {
    const CONFIG: &[u8] = include_bytes!("../fixtures/checkpoints/llama_bitlinear/config.json");
    let root = std::env::temp_dir().join(format!("onebit-fuzz-{}", std::process::id()));
    let (source, out) = (root.join("source"), root.join("out"));
    if !source.exists() {
        fs::create_dir_all(&source).expect("a temporary folder can be made");
        fs::create_dir_all(&out).expect("a temporary folder can be made");
        fs::write(source.join("config.json"), CONFIG).expect("a temporary file can be written");
    }
    fs::write(source.join("model.safetensors"), data).expect("a temporary file can be written");
    convert_checked(&source, &out);
}

fn convert_checked(source: &Path, out: &Path) {
    let path = out.join("model.onebit");
    if convert(source, &path, &Options::default(), &mut ()).is_ok() {
        let file = PackedFile::open(&path).expect("what was converted opens");
        file.check_hashes().expect("and is what was written");
        Model::from_file(Arc::new(file)).expect("and is a model");
        fs::remove_file(&path).expect("the output can be removed");
    }
    let left = fs::read_dir(out).expect("the folder is there").count();
    assert_eq!(left, 0, "something was left at the output");
}

/// `config.json` and `generation_config.json`.
pub(crate) fn config(data: &[u8]) {
    drop(onebit_convert::fuzz::config(data));
}

/// `model.safetensors.index.json`.
pub(crate) fn index_json(data: &[u8]) {
    drop(onebit_convert::fuzz::index_json(data));
}

/// `tokenizer.json`, once with the class that rewrites it.
pub(crate) fn tokenizer(data: &[u8]) {
    for config in [&b"{}"[..], br#"{"tokenizer_class": "LlamaTokenizer"}"#] {
        if let Ok(files) = TextFiles::new(data, Some(config), None, None) {
            text(&files);
        }
    }
}

/// A tokenizer in its compact form, where its JSON is that of a good one: tables may be anything, and what is wrong with
/// the JSON is the library's to judge, behind a guard.
pub(crate) fn tokenizer_compact(data: &[u8]) {
    let Ok(header) = onebit_tokenizer::Header::parse(data) else {
        return;
    };
    let tables = data.len() - header.parts as usize;
    let parts = br#"{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}}"#;
    let mut bytes = [&data[..tables], parts].concat();
    bytes[36..40].copy_from_slice(&(parts.len() as u32).to_le_bytes());
    let tokenizer = onebit_tokenizer::load(bytes).expect("sizes and parts are right");
    for text in [
        " Once upon a time, 1234567 \u{1f999}\u{0} e\u{301} <|end|>\n\n",
        &"a".repeat(100),
    ] {
        let encoding = tokenizer
            .encode_fast(text, true)
            .expect("there is nothing that fails");
        assert!(
            encoding.len() <= text.len() * 4,
            "a token for every byte of what stands for a byte"
        );
        drop(tokenizer.decode(encoding.get_ids(), false));
    }
    drop(tokenizer.decode(&[0, 1, 5, u32::MAX], true));
}

/// `tokenizer_config.json`, and the same bytes as `special_tokens_map.json`.
pub(crate) fn tokenizer_config(data: &[u8]) {
    const TOKENIZER: &[u8] = include_bytes!("../fixtures/tokenizers/llama3/tokenizer.json");
    for (config, special) in [(Some(data), None), (None, Some(data))] {
        if let Ok(files) = TextFiles::new(TOKENIZER, config, special, None) {
            text(&files);
        }
    }
}

/// A chat template.
pub(crate) fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let tokens = [("bos_token".to_owned(), "<s>".to_owned())].into();
    if let Ok(template) = ChatTemplate::new(source, &tokens) {
        let messages = [Message::new("user", "Hello"), Message::new("assistant", "")];
        drop(template.render(&messages, &RenderOptions::default()));
    }
}

/// A list of messages, as `--chat` and `/load` read it.
pub(crate) fn messages(data: &[u8]) {
    const TEMPLATE: &str =
        "{% for m in messages %}{{ m.role | upper }}{{ m.content }}{{ m | tojson }}{% endfor %}";
    static PARSED: LazyLock<ChatTemplate> =
        LazyLock::new(|| ChatTemplate::new(TEMPLATE, &Default::default()).expect("it is valid"));
    let Ok(messages) = Message::list_from_json(data) else {
        return;
    };
    drop(PARSED.render(&messages, &RenderOptions::default()));
    let json = serde_json::to_vec(&messages).expect("messages are JSON");
    let again = Message::list_from_json(&json).expect("what was written is read");
    assert_eq!(again.len(), messages.len());
}

/// `--ids`.
pub(crate) fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(ids) = onebit::cli::parse_ids(text) else {
        return;
    };
    let again: Vec<String> = ids.iter().map(u32::to_string).collect();
    assert_eq!(onebit::cli::parse_ids(&again.join(",")), Ok(ids));
}

/// The demo model, and small sessions of it whose rings wrap and have rows of two types.
pub(crate) fn saved() -> (Engine, SessionOptions) {
    const DEMO: &[u8] = include_bytes!("../fixtures/demo/demo.onebit");
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let file = PackedFile::from_bytes(AlignedBytes::from(DEMO)).expect("the demo is valid");
        let model = Model::from_file(Arc::new(file)).expect("and a model");
        let pool = Pool::new(1).expect("a thread");
        Engine::new(Arc::new(model), Kernels::best(), Arc::new(pool))
    });
    let options = SessionOptions {
        context: 256,
        batch: 32,
        logits_rows: 1,
        kv: KvOptions {
            window: Some(20),
            ..KvOptions::from(KvType::B1)
        },
    };
    (ENGINE.clone(), options)
}

/// The state of a session, as it is and with the checksum that it should have: what is accepted goes on.
pub(crate) fn state(data: &[u8]) {
    let (engine, options) = saved();
    let mut corrected = data.to_vec();
    if let Some((bytes, sum)) = corrected.split_last_chunk_mut::<32>() {
        *sum = Sha256::digest(bytes).into();
    }
    for bytes in [data, &corrected] {
        let length = bytes.len() as u64;
        let read = Session::read_state(engine.clone(), options, bytes, length);
        if let Ok((mut session, _)) = read
            && session.remaining() > 0
        {
            session.step(0).expect("it goes on");
        }
    }
}
