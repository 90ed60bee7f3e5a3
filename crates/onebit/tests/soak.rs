//! Memory does not grow with the number of generations. A process of its own: other tests would be counted too.
#![cfg(target_os = "linux")]

#[test]
fn memory_does_not_grow() {
    let mut told = 0;
    let report = onebit::soak::run(200, 32, &mut |done| told = done).unwrap();
    assert_eq!(told, 200);
    assert!(!report.grew(), "{report:?}");
}
