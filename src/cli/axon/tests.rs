use clap::CommandFactory as _;

use crate::app::Exit;
use crate::cli::Cli;
use crate::cli::tests::run;

const REGISTER: [&str; 2] = ["axon", "register-endpoint"];

fn register(args: &[&str]) -> (Exit, String) {
    run(&[&REGISTER[..], args].concat())
}

#[test]
fn help_of_how_to_register_an_endpoint() {
    let mut command = Cli::command();
    command.build();
    let axon = command.find_subcommand_mut("axon").unwrap();
    let register = axon.find_subcommand_mut("register-endpoint").unwrap();
    insta::assert_snapshot!("help_axon_register_endpoint", register.render_long_help().to_string());
}

#[test]
fn chain_arguments_that_make_no_sense_are_refused() {
    for wrong in [
        &[][..],
        &["--ip", "here"],
        &["--ip", "1.2.3.4", "--port", "0"],
        &["--ip", "1.2.3.4", "--reset"],
        &["--ip", "1.2.3.4", "--hotkey", "5Grwva"],
        &["--ip", "1.2.3.4", "--metadata", "finney.scale"],
        &["--ip", "1.2.3.4", "--timeout-s", "0"],
    ] {
        assert_eq!(register(wrong), (Exit::Usage, String::new()), "{wrong:?}");
    }
}

#[cfg(not(feature = "chain"))]
#[test]
fn without_the_feature_the_command_says_how_to_get_it() {
    assert_eq!(register(&["--ip", "1.2.3.4", "--dry-run"]), (Exit::Failure, String::new()));
}

#[cfg(feature = "chain")]
mod with_the_feature {
    use serde_json::Value as Json;

    use super::*;
    use crate::bittensor::Keypair;
    use crate::bittensor::chain::standin::{Chain, Mischief, StandIn};
    use crate::bittensor::{Hotkey, Neuron};

    const RECORDED: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chain/finney.scale");
    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    const CALL: &str = "0x0704480022838900040302010000000000000000000000009b1f04040000";

    fn dry(node: &StandIn, args: &[&str]) -> (Exit, String) {
        let base = ["--ip", "1.2.3.4", "--dry-run", "--hotkey", ALICE, "--endpoint", &node.address];
        register(&[&base[..], args].concat())
    }

    #[test]
    fn chain_a_dry_run_prints_the_call_and_what_would_become_of_it() {
        let node = StandIn::start(Chain::new(), Mischief::None);
        let (exit, out) = dry(&node, &[]);
        assert_eq!(exit, Exit::Ok);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[0], format!("call\t{CALL}"));
        assert_eq!(lines[1..4], ["netuid\t72", "version\t9012002", "ip\t16909060"]);
        assert_eq!(lines.last().unwrap(), &"decision\tnot_registered");
        let hotkey: Hotkey = ALICE.parse().unwrap();
        let neuron = Neuron { uid: 0, validator_permit: false, stake: 0.0 };
        let chain = Chain::new().with_keys(72, &[(hotkey, neuron)]);
        let node = StandIn::start(chain, Mischief::None);
        let (exit, out) = dry(&node, &["--json"]);
        let report: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (exit, &report["call"], &report["decision"]),
            (Exit::Ok, &CALL.into(), &"submit".into())
        );
        assert_eq!(report["arguments"]["port"], "8091");
        assert_eq!((&report["submitted"], &report["wait_blocks"]), (&Json::Null, &Json::Null));
        assert_eq!(report["block"], 7_000_000);
        assert!(node.submitted().is_empty());
    }

    #[test]
    fn chain_a_call_can_be_encoded_without_a_node() {
        let (exit, out) = register(&["--ip", "1.2.3.4", "--dry-run", "--metadata", RECORDED]);
        assert_eq!(exit, Exit::Ok);
        assert!(out.starts_with(&format!("call\t{CALL}\n")), "{out}");
        assert!(!out.contains("decision"), "nothing is known of the chain: {out}");
        let (exit, out) = register(&["--reset", "--dry-run", "--metadata", RECORDED, "--json"]);
        let report: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &report["arguments"]["ip"]), (Exit::Ok, &"0".into()));
        assert_eq!((&report["arguments"]["port"], &report["decision"]), (&"1".into(), &Json::Null));
    }

    #[test]
    fn chain_what_goes_wrong_has_its_exit_code_and_prints_no_data() {
        let node = StandIn::start(Chain::new(), Mischief::Refuses("chain_getFinalizedHead"));
        assert_eq!(dry(&node, &[]), (Exit::Failure, String::new()));
        let known = ["--dry-run", "--hotkey", ALICE];
        for (wrong, exit) in [
            (&["--ip", "127.0.0.1"][..], Exit::Usage),
            (&["--ip", "0.0.0.0"], Exit::Usage),
            (&["--ip", "1.2.3.4", "--endpoint", "http://node"], Exit::Usage),
        ] {
            assert_eq!(register(&[wrong, &known].concat()), (exit, String::new()), "{wrong:?}");
        }
        let missing = ["--ip", "1.2.3.4", "--dry-run", "--metadata", "nowhere.scale"];
        assert_eq!(register(&missing), (Exit::Failure, String::new()));
    }

    /// A wallet with a key of ours, named by settings.
    fn wallet() -> (tempfile::TempDir, Hotkey, [String; 3]) {
        let hotkey = Keypair::from_seed(&[9; 32]).hotkey();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("miner/hotkeys");
        fs_err::create_dir_all(&folder).unwrap();
        let seed = format!("0x{}", "09".repeat(32));
        let file = serde_json::json!({ "secretSeed": seed, "ss58Address": hotkey.to_string() });
        fs_err::write(folder.join("first"), file.to_string()).unwrap();
        let path = format!("wallet.path={}", dir.path().display());
        (dir, hotkey, [path, "wallet.name=miner".into(), "wallet.hotkey=first".into()])
    }

    #[test]
    fn chain_the_wallets_key_signs_and_what_is_there_already_is_left_alone() {
        let (_dir, hotkey, settings) = wallet();
        let neuron = Neuron { uid: 0, validator_permit: false, stake: 0.0 };
        let node = StandIn::start(Chain::new().with_keys(72, &[(hotkey, neuron)]), Mischief::None);
        let mut args = vec!["--ip", "1.2.3.4", "--endpoint", &node.address, "--json"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let (exit, out) = register(&args);
        let report: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &report["call"]), (Exit::Ok, &CALL.into()));
        assert_eq!(report["submitted"]["block"], format!("0x{}", "33".repeat(32)));
        let [extrinsic] = &node.submitted()[..] else { panic!("one is submitted") };
        assert!(extrinsic.windows(32).any(|window| window == hotkey.bytes()));
        // Without a wallet nothing can be signed, and nothing is.
        let bare = ["--ip", "1.2.3.4", "--endpoint", &node.address];
        assert_eq!(register(&bare), (Exit::Config, String::new()));
        assert_eq!(node.submitted().len(), 1);
    }
}
