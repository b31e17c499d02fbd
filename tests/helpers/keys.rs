//! One writer a key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{platform, tenant};
use crate::harness::{Client, Function, Options, SOON, in_parallel, kill, marked, wait_for};

const BODY: &str = r#"
import os, time
from raas import Helper, method

class Accounts(Helper):
    def start(self):
        self.held = {}
        self.name = os.urandom(4).hex()

    @method
    def add(self, account, by=1):
        # Nothing here keeps two calls apart but the platform.
        before = self.state.get(account, 0)
        time.sleep(0.002)
        self.state.put(account, before + by)
        self.held[account] = before + by
        return before + by, self.name

    @method
    def hold(self, account, s):
        time.sleep(s)
        self.state.put(account, "held")
        return self.name

    @method
    def mark(self, account, file):
        open("/tmp/" + file, "w").close()

    @method
    def read(self, account):
        return self.state.get(account, 0)
"#;

const MANIFEST: &str = "[scaling]\nmin = 2\nmax = 3\nconcurrency = 4\nmode = \"per-key\"\n[methods.add]\nkey = \"account\"\n\
    idempotent = true\n[methods.hold]\nkey = \"account\"\nidempotent = true\n[methods.mark]\nkey = \"account\"\n";

fn accounts(client: &Client) {
    client.publish(&Function::helper("accounts", MANIFEST, BODY));
    client.create_helper("accounts", "mine", &json!({}));
    wait_for("two replicas", SOON, || {
        (client.show_helper("mine")["replicas"].as_array().unwrap().len() == 2).then_some(())
    });
}

fn add(client: &Client, account: &str) -> Value {
    client.method("mine", "add", &json!({"account": account})).expect(200).json()
}

#[test]
fn calls_of_a_key_come_one_after_another_in_one_replica_and_keys_are_spread() {
    let client = tenant("keyed");
    accounts(&client);
    let answers = in_parallel(8, |thread| {
        let account = format!("account {}", thread % 4);
        (0..25).map(|_| (account.clone(), add(&client, &account))).collect::<Vec<_>>()
    });
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    let mut replicas = BTreeSet::new();
    for account in 0..4 {
        let account = format!("account {account}");
        let of_account = || answers.iter().filter(|(name, _)| *name == account).map(|(_, answer)| answer);
        let values: BTreeSet<_> = of_account().map(|answer| answer[0].as_u64().unwrap()).collect();
        assert_eq!(values, (1..=50).collect(), "no write of {account} is lost");
        let names: BTreeSet<_> = of_account().map(|answer| answer[1].to_string()).collect();
        assert_eq!(names.len(), 1, "{account} stays where it is");
        replicas.extend(names);
        assert_eq!(client.method("mine", "read", &json!({"account": account})).expect(200).json(), 50);
    }
    assert!(replicas.len() > 1, "keys are spread over replicas");
    client.method("mine", "add", &json!({})).problem(422, "wrong-arguments", "caller");
}

#[test]
fn a_key_goes_on_at_once_where_its_replica_dies_or_is_replaced() {
    let client = tenant("key-moves");
    accounts(&client);
    let first = add(&client, "a");
    client.method("mine", "mark", &json!({"account": "a", "file": "holder-of-a"})).expect(200);
    kill(marked(&platform().path(), "holder-of-a").expect("the replica runs"));
    let second = add(&client, "a");
    assert_eq!(second[0], 2);
    assert_ne!(first[1], second[1], "another replica has it");
    client.change_helper("mine", &json!({"config": {"x": 1}})).expect(200);
    let third = add(&client, "a");
    assert_eq!(third[0], 3);
    assert_ne!(second[1], third[1]);
}

#[test]
fn a_platform_that_was_killed_finds_its_keys_free_and_another_waits_for_them() {
    let data = crate::harness::DataFolder::new();
    let platform = Options::new().data(&data).start();
    let client = platform.tenant("key-restart");
    accounts(&client);
    assert_eq!(add(&client, "a")[0], 1);
    platform.kill();
    platform.processes_are_gone();
    let platform = Options::new().data(&data).start();
    let client = Client::new(&platform.admin.url, &client.key, &client.tenant);
    let begun = std::time::Instant::now();
    assert_eq!(add(&client, "a")[0], 2);
    assert!(begun.elapsed().as_secs() < 8, "its own old lease holds nobody up");
    platform.finish();
    // To a platform with another name the lease is another's: it waits for its end, and not longer.
    std::fs::remove_file(data.path().join("platform.id")).unwrap();
    let platform = Options::new().data(&data).start();
    let client = Client::new(&platform.admin.url, &client.key, &client.tenant);
    assert_eq!(add(&client, "a")[0], 3);
    platform.finish();
}
