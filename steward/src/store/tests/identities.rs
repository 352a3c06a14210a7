//! The table of identities: of each name the newest, found by its name and by its key.

use super::*;
use crate::store::IdentityRow;
use crate::store::reader::Reader;

fn row(name: &str, key: &str, serial: u64) -> IdentityRow {
    let name = NodeName::new(name).unwrap();
    let certificate = format!("{name} {key} {serial}");
    IdentityRow { name, key: key.to_owned(), serial, certificate }
}

#[test]
fn of_each_name_the_certificate_with_the_highest_serial_is_kept() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.identify(&[row("ship1", "UA", 1), row("ship2", "UB", 1)]).unwrap();
    store.identify(&[row("ship1", "UC", 3), row("ship1", "UD", 2), row("ship2", "UE", 1)]).unwrap();
    drop(store);
    let reader = Reader::open(folder.path()).unwrap();
    let ship1 = NodeName::new("ship1").unwrap();
    assert_eq!(reader.certificate_of(&ship1).unwrap().as_deref(), Some("ship1 UC 3"));
    assert_eq!(reader.certificate_of_key("UC").unwrap().as_deref(), Some("ship1 UC 3"));
    assert_eq!(reader.certificate_of_key("UB").unwrap().as_deref(), Some("ship2 UB 1"));
    for gone in ["UA", "UD", "UE"] {
        assert_eq!(reader.certificate_of_key(gone).unwrap(), None, "{gone}");
    }
    assert_eq!(reader.certificates().unwrap(), 2);
}
