//! What callers ask for: how strict, how long, and to stop.

use super::*;
use onebit_convert::{ErrorKind, Progress};
use std::cell::Cell;

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.0.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn strict(tokens: usize, max_kl: f64) -> Options {
    let mut options = Options::default();
    options.verify.tokens = tokens;
    options.verify.max_kl = Some(max_kl);
    options
}

#[test]
fn conversion_reports_what_was_measured() {
    let place = Place::new();
    let source = checkpoint("bitnet_packed");
    let report = convert(&source, &place.path(), &strict(16, 1e-3), &mut ()).unwrap();
    let found = report.verify.clone().unwrap();
    assert_eq!((found.tokens, found.limits.mean_kl), (16, 1e-3));
    assert!(
        report.to_string().contains("verified: 16 random tokens"),
        "{report}"
    );
    let unverified = convert(
        &source,
        &place.0.path().join("b"),
        &Options::default(),
        &mut (),
    )
    .unwrap();
    assert_eq!(unverified.verify, None);
    assert!(!unverified.to_string().contains("verified:"));
}

#[test]
fn a_file_that_fails_never_appears() {
    let place = Place::new();
    let source = checkpoint("bitnet_packed");
    let error = convert(&source, &place.path(), &strict(8, 0.0), &mut ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    let message = error.to_string();
    for part in [
        "mean KL divergence is",
        "more than 0.0e0",
        "worst at position",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(names(&place).is_empty());

    fs::write(place.path(), "precious").unwrap();
    let mut options = strict(8, 0.0);
    options.force = true;
    convert(&source, &place.path(), &options, &mut ()).unwrap_err();
    assert_eq!(fs::read(place.path()).unwrap(), b"precious");
    assert_eq!(names(&place).len(), 1);
}

#[test]
fn impossible_requests_are_refused_before_anything_is_packed() {
    let place = Place::new();
    let refused = |options: &Options| {
        let error = convert(
            &checkpoint("bitnet_packed"),
            &place.path(),
            options,
            &mut (),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(names(&place).is_empty());
        error.to_string()
    };
    assert!(refused(&strict(129, 1.0)).contains("129 tokens: the model has 128 positions"));
    for kl in [-1.0, f64::NAN] {
        assert!(refused(&strict(8, kl)).contains("not negative"));
    }
    convert(
        &checkpoint("bitnet_packed"),
        &place.path(),
        &strict(128, 1.0),
        &mut (),
    )
    .unwrap();
}

#[test]
fn a_file_of_another_model_is_refused() {
    let place = Place::new();
    let packed = place
        .pack(&checkpoint("llama_bitlinear"), &Options::default())
        .unwrap();
    let compare =
        |source: &str| verify(&checkpoint(source), &packed, &Verify::new(4), &mut ()).unwrap_err();
    let error = compare("bitnet_packed");
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("vocab"), "{error}");
    fs::write(&packed, "no model").unwrap();
    assert_eq!(compare("llama_bitlinear").kind(), ErrorKind::Malformed);
}

/// Gives up at some advance of the verification.
struct Impatient {
    bytes: Option<u64>,
    seen: u64,
    calls: Cell<usize>,
    patience: usize,
}

impl Progress for Impatient {
    fn begin_verify(&mut self, _tokens: usize, bytes: u64) {
        self.bytes = Some(bytes);
    }

    fn advance(&mut self, _tensor: &str, bytes: u64) {
        if self.bytes.is_some() {
            self.seen += bytes;
        }
    }

    fn is_cancelled(&self) -> bool {
        self.calls
            .set(self.calls.get() + usize::from(self.bytes.is_some()));
        self.calls.get() > self.patience
    }
}

#[test]
fn verification_says_how_far_it_is_and_can_be_stopped() {
    let place = Place::new();
    let run = |patience| {
        let mut progress = Impatient {
            bytes: None,
            seen: 0,
            calls: Cell::new(0),
            patience,
        };
        let mut options = Options::default();
        options.verify.tokens = 40;
        options.force = true;
        let result = convert(
            &checkpoint("bitnet_packed"),
            &place.path(),
            &options,
            &mut progress,
        );
        (result.map(drop), progress)
    };
    let (done, all) = run(usize::MAX);
    done.unwrap();
    let (seen, promised) = (all.seen as f64, all.bytes.unwrap() as f64);
    assert!(
        (0.95..=1.0).contains(&(seen / promised)),
        "{seen} of {promised}"
    );
    fs::remove_file(place.path()).unwrap();
    for patience in [0, 1, all.calls.get() / 2, all.calls.get() - 1] {
        let (result, _) = run(patience);
        assert_eq!(
            result.unwrap_err().kind(),
            ErrorKind::Cancelled,
            "{patience}"
        );
        assert!(names(&place).is_empty());
    }
}
