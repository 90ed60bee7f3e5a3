//! What the program says of its memory.

use crate::onebit;
use serde_json::Value;

/// Fails unless a `memory` object is complete.
#[cfg(target_os = "linux")]
pub(crate) fn is_report(memory: &Value) {
    let numbers = ["planned", "peak", "anon", "file"];
    assert!(numbers.iter().all(|key| memory[key].is_u64()), "{memory}");
    assert_eq!(memory.as_object().unwrap().len(), numbers.len() + 2);
    let group = &memory["cgroup"];
    assert!(group.is_null() || group["current"].is_u64(), "{group}");
    for phase in memory["phases"].as_array().unwrap() {
        let numbers = [
            "anon",
            "file",
            "peak",
            "pss",
            "vm_size",
            "threads",
            "minor_faults",
            "major_faults",
        ];
        assert!(numbers.iter().all(|key| phase[key].is_u64()), "{phase}");
        assert_eq!(phase.as_object().unwrap().len(), numbers.len() + 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn every_phase_is_measured() {
    let names = |memory: &Value| -> Vec<String> {
        let phases = memory["phases"].as_array().unwrap();
        let name = |phase: &Value| phase["name"].as_str().unwrap().to_owned();
        phases.iter().map(name).collect()
    };
    let done = onebit(&["run", "-p", "Once", "-n", "4", "-t", "2", "--json"]).json();
    let memory = &done["memory"];
    is_report(memory);
    assert_eq!(names(memory), ["open", "load", "prefill", "decode"]);
    let phases = memory["phases"].as_array().unwrap();
    let number = |phase: &Value, key: &str| phase[key].as_u64().unwrap();
    let largest = phases.iter().map(|phase| number(phase, "peak")).max();
    assert!(memory["peak"].as_u64() >= largest);
    for phase in phases {
        assert!(number(phase, "peak") >= number(phase, "anon"), "{phase}");
        assert!(number(phase, "vm_size") >= number(phase, "pss"), "{phase}");
    }
    // The weights come with the prompt, the second thread with the load. The system may count a thread that was joined
    // for a moment longer: that which compiled the template.
    assert!(number(&phases[2], "minor_faults") > 0);
    let [open, load, _, decode] = [0, 1, 2, 3].map(|phase| number(&phases[phase], "threads"));
    assert!(load == open + 1 || load == open + 2, "{memory}");
    assert!(decode == open + 1 || decode == load, "{memory}");

    let done = onebit(&["run", "-p", "Once", "-n", "0", "--json"]).json();
    assert_eq!(names(&done["memory"]), ["open", "load", "prefill"]);
    let done = onebit(&["score", "--text", "Once upon a time", "--json"]).json();
    assert_eq!(names(&done["memory"]), ["open", "load", "score"]);
}
