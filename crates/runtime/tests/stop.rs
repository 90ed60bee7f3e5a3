//! Stop strings against a search that looks at one character more at a time.

use onebit_runtime::{RuntimeError, StopStrings};
use proptest::prelude::*;

/// The text before the first complete stop string, and whether there is one.
fn naive(text: &str, stops: &[String]) -> (String, bool) {
    for end in text.char_indices().map(|(i, c)| i + c.len_utf8()) {
        let matches = stops
            .iter()
            .filter(|stop| text[..end].ends_with(stop.as_str()));
        if let Some(longest) = matches.map(String::len).max() {
            return (text[..end - longest].to_owned(), true);
        }
    }
    (text.to_owned(), false)
}

fn stream(pieces: &[String], stops: &[String]) -> (String, bool) {
    let mut stop = StopStrings::new(stops.to_vec()).unwrap();
    let mut out = String::new();
    for piece in pieces {
        let (text, ended) = stop.push(piece);
        out.push_str(&text);
        if ended {
            return (out, true);
        }
    }
    (out + &stop.finish(), false)
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        pieces in prop::collection::vec("[abé]{0,4}", 0..12),
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
    ) {
        prop_assert_eq!(stream(&pieces, &stops), naive(&pieces.concat(), &stops));
    }

    #[test]
    fn only_possible_beginnings_are_held_back(text in "[ab]{0,8}", stop in "[ab]{2,5}") {
        let mut stops = StopStrings::new([stop.clone()]).unwrap();
        let (out, ended) = stops.push(&text);
        if !ended {
            let held = &text[out.len()..];
            prop_assert!(held.len() < stop.len() && stop.starts_with(held));
        }
    }
}

#[test]
fn examples() {
    let run = |pieces: &[&str], stops: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        stream(&owned(pieces), &owned(stops))
    };
    assert_eq!(run(&["a", "b", "c"], &["bc"]), ("a".into(), true));
    assert_eq!(run(&["ab", "ab", "ac"], &["abac"]), ("ab".into(), true));
    assert_eq!(run(&["abcd"], &["abcd", "bc"]), ("a".into(), true));
    assert_eq!(run(&["xbc"], &["c", "bc"]), ("x".into(), true));
    assert_eq!(run(&["one\n", "\ntwo"], &["\n\n"]), ("one".into(), true));
    assert_eq!(
        run(&["one\n", "two"], &["\n\n"]),
        ("one\ntwo".into(), false)
    );
    assert_eq!(run(&["anything"], &[]), ("anything".into(), false));
    assert!(matches!(
        StopStrings::new(["a", ""]),
        Err(RuntimeError::EmptyStop)
    ));
}
