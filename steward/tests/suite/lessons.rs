//! Holds `docs/lessons.md` to what it says: every lesson names a test, and the test is there.

use std::fs;
use std::path::Path;

const LESSONS: usize = 18;

#[test]
fn every_lesson_names_tests_that_are_there() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(package.parent().unwrap().join("docs/lessons.md")).unwrap();
    for lesson in 1..=LESSONS {
        let row = text.lines().find(|line| line.starts_with(&format!("| L{lesson} |")));
        let row = row.unwrap_or_else(|| panic!("docs/lessons.md has no row for L{lesson}"));
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        assert!(!tests.is_empty(), "L{lesson} names no test");
        for test in tests {
            let (file, function) = test.split_once("::").unwrap();
            let source = fs::read_to_string(package.join(format!("tests/suite/{file}.rs"))).unwrap_or_default();
            let declared = format!("fn {function}()");
            let at = source.find(&declared).unwrap_or_else(|| panic!("L{lesson} names {test}, which isn't there"));
            let before = source[..at].lines().rev().take(3);
            assert!(before.into_iter().any(|line| line.contains("test")), "{test} is no test");
            assert!(function.starts_with(&format!("l{lesson}_")), "{test} can't be found by the number of L{lesson}");
        }
    }
}
