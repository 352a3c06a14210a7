//! Secret files as they are written, and as others may have left them.

use std::os::unix::fs::symlink;

use super::*;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_is_written_for_us_only_and_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.nk");
    write(&path, "one").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What a process left that was killed while it wrote.
    fs::write(dir.path().join("node.nk.new"), "half").unwrap();
    write(&path, "two").unwrap();
    assert_eq!(read(&path).unwrap().as_str(), "two");
    assert!(!dir.path().join("node.nk.new").exists());
}

#[test]
fn what_others_could_read_or_put_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.nk");
    assert!(matches!(read(&path), Err(SecretFileError::Missing { .. })));
    write(&path, "secret").unwrap();
    for open in [0o640, 0o604, 0o620] {
        mode(&path, open);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go=") && !error.contains("secret "), "{error}");
    }
    mode(&path, 0o400);
    assert_eq!(read(&path).unwrap().as_str(), "secret");
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(read(&link), Err(SecretFileError::NotAFile { .. })));
    assert!(matches!(read(dir.path()), Err(SecretFileError::NotAFile { .. })));
    let long = dir.path().join("long");
    write(&long, &"x".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
    assert!(matches!(read(&long), Err(SecretFileError::TooLong { .. })));
}

#[test]
fn a_folder_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("identity");
    make_folder(&folder).unwrap();
    make_folder(&folder).unwrap();
    mode(&folder, 0o750);
    assert!(matches!(make_folder(&folder), Err(SecretFileError::Mode { mode: 0o750, .. })));
    let link = dir.path().join("link");
    symlink(&folder, &link).unwrap();
    assert!(matches!(check_folder(&link), Err(SecretFileError::NotAFile { .. })));
}
