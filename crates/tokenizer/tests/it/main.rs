//! The compact form against the crate `tokenizers`.

#[path = "../../../../xtask/src/synth/random.rs"]
#[allow(dead_code, reason = "the generator draws weights too")]
mod random;
#[path = "../../../../xtask/src/synth/tokenizer.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod synthetic;

mod broken;
mod corpus;
mod equal;
mod models;
mod refused;

use onebit_tokenizer::{CompactTokenizer, Origin, build, class, load};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A tokenizer in both forms.
struct Both {
    name: String,
    library: tokenizers::Tokenizer,
    compact: CompactTokenizer<Vec<u8>>,
}

impl Both {
    /// From a `tokenizer.json`, with the class that the config names or without.
    fn new(name: &str, json: &[u8], config: &Map<String, Value>) -> Self {
        let mut file: Value = serde_json::from_slice(json).unwrap();
        if class::is_llama(config) {
            class::rebuild(&mut file, config);
        }
        let library = serde_json::to_vec(&file).unwrap();
        let compact = build(json, config, &Origin::default()).unwrap();
        assert_eq!(
            compact,
            build(json, config, &Origin::default()).unwrap(),
            "the same bytes"
        );
        Self {
            name: name.into(),
            library: tokenizers::Tokenizer::from_bytes(library).unwrap(),
            compact: load(compact).unwrap(),
        }
    }

    /// Compares ids and offsets, and what the ids decode to.
    fn check(&self, text: &str) {
        let about = || {
            format!(
                "{}: {:?}",
                self.name,
                text.chars().take(200).collect::<String>()
            )
        };
        // Long texts once, short ones in every way.
        let long = text.len() > 4000;
        for special in [false, true].into_iter().skip(usize::from(long)) {
            let [expected, found] = [
                self.library.encode(text, special).unwrap(),
                self.compact.encode(text, special).unwrap(),
            ];
            assert_eq!(expected.get_ids(), found.get_ids(), "{}", about());
            assert_eq!(expected.get_offsets(), found.get_offsets(), "{}", about());
            if !long {
                let fast = self.compact.encode_fast(text, special).unwrap();
                assert_eq!(expected.get_ids(), fast.get_ids(), "{}", about());
            }
            self.check_decoding(expected.get_ids());
        }
    }

    fn check_decoding(&self, ids: &[u32]) {
        for skip in [false, true] {
            assert_eq!(
                self.library.decode(ids, skip).unwrap(),
                self.compact.decode(ids, skip).unwrap(),
                "{}: {ids:?}",
                self.name
            );
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The tokenizers of the repository: each as its file says, and those of the class also as the class has it.
fn all() -> Vec<Both> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(fixtures().join("tokenizers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("tokenizer.json").exists())
        .collect();
    folders.push(fixtures().join("demo/checkpoint"));
    folders.push(fixtures().join("demo/b1/checkpoint"));
    folders.sort();
    assert!(folders.len() >= 10);
    let mut all = Vec::new();
    for folder in folders {
        let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
        let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap();
        let config: Map<String, Value> = serde_json::from_slice(&config).unwrap();
        let name = folder.display().to_string();
        all.push(Both::new(&name, &json, &Map::new()));
        if class::is_llama(&config) {
            all.push(Both::new(&format!("{name} of its class"), &json, &config));
        }
    }
    all
}
