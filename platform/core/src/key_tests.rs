//! Tests of the result key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

#[derive(Debug, Clone)]
struct Parts {
    scope: SharingScope,
    version: [u8; 32],
    generation: u64,
    helpers: HelperVersions,
    node: String,
    event: String,
}

impl Parts {
    fn key(&self) -> ResultKey {
        let prefix = KeyPrefix::new(
            self.scope,
            &VersionDigest::from_bytes(self.version),
            self.generation,
            &self.helpers,
            &self.node,
        );
        prefix.whole(&CanonicalEvent::parse(self.event.as_bytes()).unwrap())
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        proptest::option::of(any::<[u8; 16]>()),
        any::<[u8; 32]>(),
        any::<u64>(),
        proptest::collection::btree_map("[a-c]{0,3}", any::<u64>(), 0..3),
        "[a-z0-9]{0,5}",
        any::<i64>(),
    )
        .prop_map(|(tenant, version, generation, helpers, node, number)| Parts {
            scope: tenant.map_or(SharingScope::Public, |bytes| SharingScope::Tenant(TenantId::from_bytes(bytes))),
            version,
            generation,
            helpers,
            node,
            event: format!("{{\"n\":{number}}}"),
        })
}

proptest! {
    #[test]
    fn changing_any_one_part_changes_the_key(parts in parts(), other in parts()) {
        let key = parts.key();
        prop_assert_eq!(key, parts.clone().key());
        let changes = [
            (parts.scope != other.scope, Parts { scope: other.scope, ..parts.clone() }),
            (parts.version != other.version, Parts { version: other.version, ..parts.clone() }),
            (parts.generation != other.generation, Parts { generation: other.generation, ..parts.clone() }),
            (parts.helpers != other.helpers, Parts { helpers: other.helpers.clone(), ..parts.clone() }),
            (parts.node != other.node, Parts { node: other.node.clone(), ..parts.clone() }),
            (parts.event != other.event, Parts { event: other.event.clone(), ..parts.clone() }),
        ];
        for (differs, changed) in changes {
            prop_assert_eq!(changed.key() != key, differs, "{:?} {:?}", parts, changed);
        }
    }

    #[test]
    fn a_byte_cannot_move_from_one_part_to_the_next(text in "[a-z]{2,8}", cut in 0usize..8) {
        let cut = cut.min(text.len());
        let prefix = |node: &str, helper: &str| KeyPrefix::new(
            SharingScope::Public, &VersionDigest::from_bytes([0; 32]), 0, &BTreeMap::from([(helper.to_owned(), 1)]), node,
        );
        let keys: HashSet<_> = [
            prefix(&text, "").key(b""), prefix("", &text).key(b""), prefix("", "").key(text.as_bytes()),
            prefix(&text[..cut], &text[cut..]).key(b"x"), prefix("", &text[..cut]).key(&text.as_bytes()[cut..]),
        ].into_iter().collect();
        // The last coincides with the second or third where the cut is at an end, and only there.
        prop_assert!(keys.len() == 5 || (keys.len() == 4 && (cut == 0 || cut == text.len())));
    }
}

#[test]
fn order_and_white_space_do_not_matter_and_types_do() {
    let prefix = KeyPrefix::new(SharingScope::Public, &VersionDigest::from_bytes([7; 32]), 0, &BTreeMap::new(), "");
    let key = |text: &str| prefix.whole(&CanonicalEvent::parse(text.as_bytes()).unwrap());
    assert_eq!(key(r#"{"a":1,"b":[true,null]}"#), key(" {\"b\" : [true, null],\n\"a\":1}"));
    let pointers = [JsonPointer::parse("/x").unwrap()];
    let projected = |text: &str| prefix.of(&CanonicalEvent::parse(text.as_bytes()).unwrap(), Some(&pointers));
    let keys = [
        key("1"),
        key("1.0"),
        key("\"1\""),
        key("true"),
        key("null"),
        projected("{}"),
        projected(r#"{"x":null}"#),
        projected(r#"{"x":1}"#),
        projected(r#"{"x":1.0}"#),
        projected(r#"{"x":"1"}"#),
        projected(r#"{"x":true}"#),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    assert_eq!(projected(r#"{"x":1,"id":1}"#), projected(r#"{"id":2,"x":1}"#));
    assert_eq!(prefix.of(&CanonicalEvent::parse(b"1").unwrap(), None), key("1"));
}

/// Kept results outlive a release: what a key is made of changes only together with the domain text.
#[test]
fn the_key_of_a_known_call_stays() {
    let tenant = TenantId::from_bytes([1; 16]);
    let prefix = KeyPrefix::new(
        SharingScope::Tenant(tenant),
        &VersionDigest::from_bytes([2; 32]),
        0,
        &BTreeMap::from([("geo".to_owned(), 3)]),
        "n1",
    );
    let event = CanonicalEvent::parse(br#"{"from":"JFK","to":["LAX",1,2.5,null,true],"z":{"b":1,"a":2}}"#).unwrap();
    assert_eq!(prefix.whole(&event).to_string(), "25f5a7f54ef5a3461ca9c67c061837de92c2863d29d70fd135f5c4e80458898e");
}
