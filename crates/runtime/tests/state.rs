//! Sessions in files: they go on with the same bits, and files that are not theirs are refused.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{engine, model, model_of, spec};
use onebit_kernels::Kernels;
use onebit_model::{Activations, KvOptions, KvType};
use onebit_runtime::{Engine, ErrorKind, RuntimeError, Session, SessionOptions, StateError};

const TYPES: [KvType; 6] = [
    KvType::F32,
    KvType::F16,
    KvType::Q8,
    KvType::Q4,
    KvType::Q2,
    KvType::B1,
];
const LABEL: [u8; 32] = [7; 32];

fn small() -> Engine {
    engine(&model("llama3"), Kernels::best(), 1)
}

fn options(kv: impl Into<KvOptions>, context: usize) -> SessionOptions {
    SessionOptions {
        context,
        batch: 32,
        logits_rows: 1,
        kv: kv.into(),
    }
}

fn ids(range: std::ops::Range<u32>) -> Vec<u32> {
    range.map(|i| i * 37 % 700).collect()
}

fn bits(session: &mut Session, ids: &[u32]) -> Vec<u32> {
    let logits = session.prefill(ids).unwrap().logits;
    let mut bits: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
    for &id in ids {
        let logits = session.step(id).unwrap().logits;
        bits.extend(logits.iter().map(|x| x.to_bits()));
    }
    bits
}

fn save(session: &Session, path: &Path) -> Vec<u8> {
    session.save(path, &LABEL).unwrap();
    fs::read(path).unwrap()
}

fn refusal(engine: &Engine, options: SessionOptions, path: &Path) -> (StateError, ErrorKind) {
    let error = Session::load(engine.clone(), options, path).unwrap_err();
    let kind = error.kind();
    match error {
        RuntimeError::State { error, .. } => (*error, kind),
        other => panic!("{other}"),
    }
}

/// With and without a window, with and without sinks.
fn keeps(kind: KvType) -> Vec<KvOptions> {
    let plain = KvOptions::from(kind);
    let windows = [(Some(40), 4), (Some(40), 0), (Some(90), 64), (None, 0)];
    let windows = windows.map(|(window, sinks)| KvOptions {
        window,
        sinks,
        ..plain
    });
    [&[plain][..], &windows].concat()
}

#[test]
fn restored_sessions_go_on_with_the_same_bits() {
    let engine = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for kv in TYPES.into_iter().flat_map(keeps) {
        for len in [1, 15, 64, 130, 200] {
            let mut kept = Session::new(engine.clone(), options(kv, 256)).unwrap();
            kept.prefill(&ids(0..len)).unwrap();
            save(&kept, &path);
            let (mut back, label) = Session::load(engine.clone(), options(kv, 256), &path).unwrap();
            assert_eq!((back.tokens(), label), (kept.tokens(), LABEL));
            let again = folder.path().join("again");
            assert!(save(&back, &again) == fs::read(&path).unwrap());
            let next = ids(300..310);
            assert!(
                bits(&mut back, &next) == bits(&mut kept, &next),
                "{kv:?} {len}"
            );
            // What can be gone back to is the same.
            let back_to = len as usize - 1;
            assert_eq!(back.truncate(back_to), kept.truncate(back_to));
            assert!(
                bits(&mut back, &next) == bits(&mut kept, &next),
                "{kv:?} {len}"
            );
        }
    }
}

#[test]
fn the_context_may_change_while_no_ring_has_replaced_rows() {
    let engine = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for kv in TYPES.into_iter().flat_map(keeps) {
        let mut kept = Session::new(engine.clone(), options(kv, 128)).unwrap();
        kept.prefill(&ids(0..60)).unwrap();
        save(&kept, &path);
        let next = ids(300..310);
        let expected = bits(&mut kept, &next);
        for context in [90, 128, 256] {
            let (mut back, _) = Session::load(engine.clone(), options(kv, context), &path).unwrap();
            assert!(bits(&mut back, &next) == expected, "{kv:?} {context}");
        }
        let (error, kind) = refusal(&engine, options(kv, 40), &path);
        assert!(matches!(
            error,
            StateError::Context {
                tokens: 60,
                context: 40
            }
        ));
        assert_eq!(kind, ErrorKind::Request);
    }
    // A ring that is smaller than both contexts is the same in both.
    let kv = KvOptions {
        window: Some(100),
        ..KvOptions::from(KvType::F16)
    };
    let mut kept = Session::new(engine.clone(), options(kv, 256)).unwrap();
    kept.prefill(&ids(0..250)).unwrap();
    save(&kept, &path);
    let (mut back, _) = Session::load(engine.clone(), options(kv, 320), &path).unwrap();
    assert!(bits(&mut back, &[1, 2, 3]) == bits(&mut kept, &[1, 2, 3]));
}

#[test]
fn rings_of_other_sizes_are_refused_with_the_context_to_use() {
    let engine = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let kv = KvOptions {
        recent: 70,
        sinks: 0,
        window: Some(120),
        ..KvOptions::from(KvType::F16)
    };
    let mut kept = Session::new(engine.clone(), options(kv, 256)).unwrap();
    kept.prefill(&ids(0..220)).unwrap();
    kept.truncate(215);
    save(&kept, &path);
    assert!(Session::load(engine.clone(), options(kv, 256), &path).is_ok());
    let (error, kind) = refusal(&engine, options(kv, 100), &path);
    assert!(matches!(error, StateError::Context { .. }) && kind == ErrorKind::Request);
    // As many tokens as fit, but the ring is cut by the shorter context.
    let kv = KvOptions::from(KvType::F16);
    let mut long = Session::new(engine.clone(), options(kv, 256)).unwrap();
    long.prefill(&ids(0..200)).unwrap();
    long.truncate(50);
    save(&long, &path);
    let (error, kind) = refusal(&engine, options(kv, 64), &path);
    assert!(
        error.to_string().contains("use a context of 256"),
        "{error}"
    );
    assert_eq!(kind, ErrorKind::Request);
}

#[test]
fn what_is_not_of_this_session_is_refused() {
    let engine_a = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let asked = options(KvType::Q4, 128);
    let mut session = Session::new(engine_a.clone(), asked).unwrap();
    session.prefill(&ids(0..20)).unwrap();
    save(&session, &path);

    let mut other = spec();
    other.norm_eps = 1e-6;
    let other = engine(&model_of("llama3", &other), Kernels::best(), 1);
    let (error, kind) = refusal(&other, asked, &path);
    assert!(matches!(error, StateError::OtherModel) && kind == ErrorKind::Request);
    for (kv, flag) in [
        (KvOptions::from(KvType::Q8), "--kv-k"),
        (KvOptions::new(KvType::Q4, KvType::F16), "--kv-v"),
        (
            KvOptions {
                sinks: 8,
                ..asked.kv
            },
            "--sinks",
        ),
        (
            KvOptions {
                recent: 8,
                ..asked.kv
            },
            "--kv-recent",
        ),
        (
            KvOptions {
                window: Some(9),
                ..asked.kv
            },
            "--window",
        ),
    ] {
        let (error, kind) = refusal(&engine_a, options(kv, 128), &path);
        assert!(error.to_string().contains(flag), "{error}");
        assert_eq!(kind, ErrorKind::Request);
    }
    let same = Arc::clone(engine_a.model());
    assert!(
        Session::load(
            engine(&same, Kernels::by_name("scalar").unwrap(), 2),
            asked,
            &path
        )
        .is_ok()
    );
    let no_batch = SessionOptions { batch: 0, ..asked };
    let error = Session::load(engine_a, no_batch, &path).unwrap_err();
    assert!(matches!(error, RuntimeError::Option { name: "batch", .. }));
}

#[test]
fn the_fingerprint_is_of_what_is_computed() {
    let plain = model("llama3");
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/demo/demo.onebit"
    );
    let open = |activations| {
        let model = onebit_model::Model::open(path).unwrap();
        model.with_activations(activations).unwrap().fingerprint()
    };
    assert_eq!(open(Activations::Auto), open(Activations::Int8));
    assert_ne!(open(Activations::Auto), plain.fingerprint());
    assert_eq!(plain.fingerprint(), model("llama3").fingerprint());
    // The tokenizer decides no key.
    assert_eq!(plain.fingerprint(), model("qwen").fingerprint());
}

#[test]
fn damaged_files_are_refused() {
    let engine = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let asked = options(KvType::B1, 128);
    let mut session = Session::new(engine.clone(), asked).unwrap();
    session.prefill(&ids(0..70)).unwrap();
    let bytes = save(&session, &path);
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refusal(&engine, asked, &path)
    };
    for len in [0, 5, 15, 16, 143, 144, 176, bytes.len() - 1] {
        let (error, kind) = with(&bytes[..len]);
        assert_eq!(kind, ErrorKind::Malformed, "{len}: {error}");
    }
    let (error, kind) = with(&[&bytes[..], b"x"].concat());
    assert!(matches!(error, StateError::Length { .. }) && kind == ErrorKind::Malformed);
    // Every byte counts: those of the header and tokens one by one, of the rows some.
    let rows = (144 + 70 * 4..bytes.len()).step_by(97);
    for at in (0..144 + 70 * 4)
        .chain(rows)
        .chain(bytes.len() - 32..bytes.len())
    {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let (_, kind) = with(&changed);
        let expected = match at {
            // A newer version; another model, other options.
            8..12 => &[ErrorKind::Malformed, ErrorKind::Unsupported][..],
            12..48 | 80..104 => &[ErrorKind::Malformed, ErrorKind::Request],
            _ => &[ErrorKind::Malformed],
        };
        assert!(expected.contains(&kind), "byte {at}: {kind:?}");
    }
    let newer = [&bytes[..8], &2u32.to_le_bytes(), &bytes[12..]].concat();
    assert!(matches!(
        with(&newer),
        (
            StateError::Version { found: 2, known: 1 },
            ErrorKind::Unsupported
        )
    ));
    let (error, kind) = refusal(&engine, asked, folder.path());
    assert!(matches!(error, StateError::NotAFile) && kind == ErrorKind::Request);
    let (error, kind) = refusal(&engine, asked, &folder.path().join("none"));
    assert!(matches!(error, StateError::Read(_)) && kind == ErrorKind::Malformed);
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::new(small(), options(KvType::F16, 64)).unwrap();
    session.prefill(&[1, 2]).unwrap();
    let kind = |path: &Path| session.save(path, &LABEL).unwrap_err().kind();
    assert_eq!(kind(&folder.path().join("none/state")), ErrorKind::Failed);
    assert_eq!(kind(folder.path()), ErrorKind::Request);
    assert_eq!(kind(Path::new("/dev/null")), ErrorKind::Request);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // A writer that is full after some bytes.
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 10, 150, 1000] {
        let error = session.write_state(&mut Full(room), &LABEL).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
