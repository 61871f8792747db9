//! Configurations and what becomes of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::cli::{self, Invocation};
use crate::exit::error_line;

/// What a server was started with.
#[derive(Clone, Copy, Default)]
struct Start<'a> {
    /// Words of the command line.
    flags: &'a str,
    variables: &'a [(&'a str, &'a str)],
    file: Option<&'a [u8]>,
}

impl Start<'_> {
    fn load(self) -> Result<Loaded, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("raftd.toml");
        if let Some(content) = self.file {
            fs::write(&path, content).unwrap();
        }
        let words = ["raftd"].into_iter().chain(self.flags.split_whitespace()).map(OsString::from);
        let Invocation::Server(request) = cli::parse(words).unwrap() else { panic!("{}", self.flags) };
        let variables = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        load(request.flags, self.file.map(|_| path.as_path()), variables)
    }

    fn config(self) -> Config {
        self.load().unwrap().config
    }

    /// The line the process would print, with the file's folder left out.
    fn error(self) -> String {
        let line = error_line(&self.load().unwrap_err());
        match line.split_once("raftd.toml") {
            Some((before, after)) => {
                let before = before.rsplit_once(' ').unwrap().0;
                format!("{before} raftd.toml{after}")
            }
            None => line,
        }
    }
}

const MINIMAL: &str = "--id 1 --data-dir data --listen 127.0.0.1:7001";

fn with_flags(flags: &str) -> String {
    format!("{MINIMAL} {flags}")
}

fn address(text: &str) -> HostPort {
    text.parse().unwrap()
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

#[test]
fn the_defaults_are_the_contract() {
    let config = Start { flags: MINIMAL, ..Start::default() }.config();
    assert_eq!((config.id(), config.data_dir()), (node(1), Path::new("data")));
    assert_eq!(config.timers().election_timeout_min, Duration::from_millis(150));
    assert_eq!(config.timers().election_timeout_max, Duration::from_millis(300));
    assert_eq!(config.timers().heartbeat_interval, Duration::from_millis(30));
    assert_eq!((config.segment_size_bytes(), config.snapshot_threshold_bytes()), (64 << 20, 64 << 20));
    assert_eq!(config.policy(), kv_store::Policy::default());
    assert_eq!(config.log_format(), LogFormat::Pretty);
    let limits = Limits {
        key_bytes: 4 << 10,
        value_bytes: 1 << 20,
        request_bytes: 2 << 20,
        transaction_operations: 128,
        connections: 8192,
        requests_in_flight: 1024,
        handshake: Duration::from_secs(5),
    };
    assert_eq!(config.limits(), limits);
    assert_eq!((config.cluster(), config.peer_listen()), (None, None));
    assert!(config.dial().is_empty());
    assert_eq!(config.warnings(), [Warning::OpenWire { listen: address("127.0.0.1:7001") }]);
}

/// Flags, and the problem with them; after `!`, the whole message where it blames something else.
const REFUSED: &str = r#"
--heartbeat-interval 75ms => the heartbeat interval must be below half the minimum election timeout (150ms), so below 75ms
--election-timeout 50ms..100ms => ! heartbeat-interval 30ms (the default): the heartbeat interval must be below half the minimum election timeout (50ms), so below 25ms
--election-timeout 150ms..299ms => the maximum must be at least twice the minimum; write 150ms..300ms, say
--election-timeout 300ms..150ms => the maximum must be at least twice the minimum; write 300ms..600ms, say
--election-timeout 150ms => a range is wanted, MIN..MAX: 150ms..300ms
--election-timeout 0ms..1ms => it must be at least 1ms and at most 3600s
--election-timeout 150..300 => a duration needs a unit; write 150ms or 150s
--election-timeout 1s..99999999999999999999s => the value is too large
--heartbeat-interval -5ms => a negative value is not possible
--heartbeat-interval 0ms => it must be at least 1ms and at most 3600s
--handshake-timeout 2h => "h" is no unit of durations; write ms or s
--cluster 1=a:1,2=a:1 => a:1 is listed twice, for 1 and 2; each member needs its own address
--cluster 1=DB:1,2=db:1 => db:1 is listed twice, for 1 and 2; each member needs its own address
--cluster 2=a:1,3=a:2 => node 1 is not in it; add 1=HOST:PORT, or correct --id
--cluster 1=a:1,1=a:2 => id 1 is listed twice
--cluster 1=a:1,0=a:2 => "0=a:2": node ids begin with 1
--cluster 1=a:1, => an item of the list is empty
--cluster a:1 => "a:1" is not ID=HOST:PORT
--cluster 1=a:65536 => "1=a:65536": port 65536 does not exist; the largest is 65535
--cluster 1=a:0 => "1=a:0": port 0 means "any free port", and nobody can connect to that; name the port
--cluster 1=0.0.0.0:1 => "1=0.0.0.0:1": 0.0.0.0:1 is an address for listening; name the one others connect to
--cluster 1=::1:7001 => "1=::1:7001": an IPv6 address stands in brackets: [::1]:7001
--cluster 1=a:1 --join b:2 => ! --cluster forms a new cluster and --join enters an existing one; give one of the two
--join b:2, => an item of the list is empty
--join b => the port is missing; write b:7001, say
--join 0.0.0.0:7001 => 0.0.0.0:7001 is an address for listening; name the one others connect to
--dial 1=a:1 => node 1 is this node itself, which it never dials
--dial 2=a:1 --dial 2=a:2 => ! --dial 2=a:1,2=a:2: id 2 is listed twice
--peer-listen 127.0.0.1 => the port is missing; write 127.0.0.1:7001, say
--advertise 0.0.0.0:7001 => 0.0.0.0:7001 is an address for listening; name the one others connect to
--advertise a:0 => port 0 means "any free port", and nobody can connect to that; name the port
--segment-size 64MB => "MB" is no unit of sizes; write plain bytes, or KiB, MiB, GiB
--segment-size 0 => it must be at least 4KiB and at most 1GiB
--snapshot-threshold 0 => it must be at least 1 and at most 1048576GiB
--max-key-bytes 0 => it must be at least 1 and at most 4KiB
--max-connections 0 => it must be at least 1 and at most 1000000
--max-connections 8k => a plain number is wanted, without "k"
--max-value-bytes 1048577 => it must be at least 1 and at most 1MiB
--max-request-bytes 2097153 => it must be at least 1KiB and at most 2MiB
--max-request-bytes 1MiB => a request with the largest key and value has up to 1029KiB; raise max-request-bytes to that, or lower max-key-bytes or max-value-bytes
--log-format xml => a log format is pretty or json
"#;

#[test]
fn flags_are_refused_with_advice() {
    for line in REFUSED.lines().filter(|line| !line.is_empty()) {
        let (wrong, problem) = line.split_once(" => ").unwrap();
        let message = match problem.strip_prefix("! ") {
            Some(message) => format!("raftd: {message}"),
            None => format!("raftd: {wrong}: {problem}"),
        };
        let flags = with_flags(wrong);
        assert_eq!(Start { flags: &flags, ..Start::default() }.error(), message);
    }
}

#[test]
fn what_is_missing_is_named() {
    let table = [("", "--id, --data-dir, --listen are missing"), ("--id 1 --listen a:1", "--data-dir is missing")];
    for (flags, message) in table {
        let expected = format!(
            "raftd: {message}; give it as a flag, as a RAFTD_* variable or in the --config file (raftd --help lists all)"
        );
        assert_eq!(Start { flags, ..Start::default() }.error(), expected);
    }
    let table = [
        ("--id 0 --data-dir d --listen a:1", "--id 0: node ids begin with 1"),
        ("--id -1 --data-dir d --listen a:1", "--id -1: a negative value is not possible"),
        ("--id one --data-dir d --listen a:1", "--id one: a number is wanted"),
        ("--id 18446744073709551616 --data-dir d --listen a:1", "--id 18446744073709551616: the value is too large"),
        ("--id 1 --data-dir= --listen a:1", "--data-dir : the name of the data directory is empty"),
        ("--id 1 --data-dir d --listen a:65536", "--listen a:65536: port 65536 does not exist; the largest is 65535"),
        (
            "--id 1 --data-dir d --listen 0.0.0.0:7001",
            "--listen 0.0.0.0:7001: clients cannot connect to \"every interface\"; say with --advertise HOST:PORT where they reach this node",
        ),
        (
            "--id 1 --data-dir d --listen [::]:7001 --peer-listen a:2 --cluster 1=a:2",
            "--listen [::]:7001: clients cannot connect to \"every interface\"; say with --advertise HOST:PORT where they reach this node",
        ),
    ];
    for (flags, message) in table {
        assert_eq!(Start { flags, ..Start::default() }.error(), format!("raftd: {message}"));
    }
}

#[test]
fn files_are_refused_with_their_line() {
    let table: [(&[u8], &str); 17] = [
        (
            b"id = 1\nelection-timeot = \"1s..2s\"\n",
            "raftd.toml:2: \"election-timeot\" is no setting; did you mean election-timeout?",
        ),
        (b"data_dri = \"d\"", "raftd.toml:1: \"data_dri\" is no setting; did you mean data-dir?"),
        (b"\n\ntls = true", "raftd.toml:3: \"tls\" is no setting; raftd --help lists them"),
        (b"[server]\nid = 1", "raftd.toml:1: \"server\" is no setting; raftd --help lists them"),
        (b"config = \"other.toml\"", "raftd.toml:1: \"config\" is no setting; raftd --help lists them"),
        (b"id = 1\n\nid = 2", "raftd.toml:3: duplicate key, at \"id = 2\""),
        (
            b"data_dir = \"a\"\ndata-dir = \"b\"",
            "raftd.toml:2: data-dir is given twice; \"_\" and \"-\" are the same in a key",
        ),
        (b"id = \"1\"", "raftd.toml:1: id is an integer, not a string"),
        (b"id = 1.5", "raftd.toml:1: id is an integer, not a float"),
        (b"listen = 7001", "raftd.toml:1: listen is a string, not an integer"),
        (b"heartbeat-interval = 30", "raftd.toml:1: heartbeat-interval is a string such as \"30ms\", not an integer"),
        (
            b"segment-size = true",
            "raftd.toml:1: segment-size is an integer, or a string such as \"64MiB\", not a boolean",
        ),
        (b"dial = [1, 2]", "raftd.toml:1: dial is a string, or an array of strings, not an array of that"),
        (b"\r\nmax-key-bytes = -5\r\n", "raftd.toml:2: max-key-bytes = -5: a negative value is not possible"),
        (
            b"max-key-bytes = 99999999999999999999999999999999999999999999",
            "raftd.toml:1: max-key-bytes = 99999999999999999999999999999999999999999999: the value is too large",
        ),
        (b"id = 1\nlisten = \"\xff\"", "raftd.toml:2: the file is not valid UTF-8"),
        (b"# fine\nlisten = \"a:1", "raftd.toml:2: invalid basic string, expected `\"`, at \"listen = \"a:1\""),
    ];
    for (content, message) in table {
        let start = Start { flags: MINIMAL, file: Some(content), ..Start::default() };
        assert_eq!(start.error(), format!("raftd: {message}"), "{}", String::from_utf8_lossy(content));
    }
}

#[test]
fn files_that_are_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let error_of = |path: &Path| error_line(&load(Layer::new(), Some(path), []).unwrap_err());
    let path = directory.path();
    let expected = format!("raftd: the configuration file {} is a directory; name the file in it", path.display());
    assert_eq!(error_of(path), expected);
    let missing = path.join("raftd.toml");
    let expected = format!("raftd: cannot read the configuration file {}: ", missing.display());
    assert!(error_of(&missing).starts_with(&expected), "{}", error_of(&missing));
    fs::write(&missing, vec![b'\n'; (1 << 20) + 1]).unwrap();
    let expected =
        format!("raftd: the configuration file {} has more than 1MiB; is it the right file?", missing.display());
    assert_eq!(error_of(&missing), expected);
}

#[test]
fn a_byte_order_mark_crlf_and_an_empty_file_are_fine() {
    let expected = Start { flags: MINIMAL, ..Start::default() }.config();
    let whole = b"\xef\xbb\xbfid = 1\r\ndata_dir = \"data\"\r\nlisten = \"127.0.0.1:7001\"\r\n";
    assert_eq!(Start { file: Some(whole), ..Start::default() }.config(), expected);
    assert_eq!(Start { flags: MINIMAL, file: Some(b""), ..Start::default() }.config(), expected);
    assert_eq!(Start { flags: MINIMAL, file: Some(b"\xef\xbb\xbf"), ..Start::default() }.config(), expected);
}

#[test]
fn values_of_the_file_have_their_natural_types() {
    let file = br#"
        id = 0x0_a
        data-dir = "data"
        listen = "[::1]:7001"
        cluster = ["10=[::1]:7001", "11=[::1]:7002,12=b:1"]
        segment_size = 1_048_576
        max-request-bytes = "1536KiB"
    "#;
    let config = Start { file: Some(file), ..Start::default() }.config();
    assert_eq!(config.id(), node(10));
    assert_eq!(config.cluster().unwrap().len(), 3);
    assert_eq!((config.segment_size_bytes(), config.limits().request_bytes), (1 << 20, 1536 << 10));
}

#[test]
fn variables_are_checked_by_name() {
    let refuse = |name, value| Start { flags: MINIMAL, variables: &[(name, value)], ..Start::default() }.error();
    assert_eq!(
        refuse("RAFTD_DATADIR", "d"),
        "raftd: the environment variable RAFTD_DATADIR is no setting of raftd; did you mean RAFTD_DATA_DIR? (else unset it)"
    );
    assert_eq!(
        refuse("RAFTD_COLOUR", "blue"),
        "raftd: the environment variable RAFTD_COLOUR is no setting of raftd; raftd --help lists them (else unset it)"
    );
    assert_eq!(refuse("RAFTD_DIAL", "2"), "raftd: RAFTD_DIAL=2: \"2\" is not ID=HOST:PORT");
    let ignored = [
        ("RAFTD_LOG_FORMAT", ""),
        ("RAFTD_SERVICE_HOST", "10.0.0.1"),
        ("RAFTD_SERVICE_PORT_PEER", "7001"),
        ("RAFTD_PORT", "tcp://10.0.0.1:7001"),
        ("RAFTD_PORT_7001_TCP_ADDR", "10.0.0.1"),
        ("RAFTCTL_TIMEOUT", "x"),
        ("raftd_id", "x"),
    ];
    Start { flags: MINIMAL, variables: &ignored, ..Start::default() }.config();
}

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let file = b"id = 1\ndata-dir = \"file\"\nlisten = \"file:1\"\nmax-connections = 1\n";
    let variables = [("RAFTD_DATA_DIR", "variable"), ("RAFTD_LISTEN", "variable:1")];
    let loaded = Start { flags: "--listen flag:1", variables: &variables, file: Some(file) }.load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen(), &address("flag:1"));
    assert_eq!(config.data_dir(), Path::new("variable"));
    assert_eq!(config.limits().connections, 1);
    assert_eq!(config.limits().requests_in_flight, 1024);
    let printed = loaded.to_toml();
    for line in [
        "listen = \"flag:1\"  # --listen",
        "data-dir = \"variable\"  # RAFTD_DATA_DIR",
        "max-requests-in-flight = 1024  # default",
        "# cluster is not set",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    let from_file = printed.lines().find(|line| line.starts_with("max-connections = 1  # ")).unwrap();
    assert!(from_file.ends_with("raftd.toml:4"), "{from_file}");
}

#[test]
fn a_variable_names_the_file_unless_a_flag_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let one = path("one.toml", "id = 1\ndata-dir = \"d\"\nlisten = \"a:1\"");
    let two = path("two.toml", "id = 2\ndata-dir = \"d\"\nlisten = \"a:1\"");
    let variables = || [(OsString::from("RAFTD_CONFIG"), one.clone().into_os_string())];
    assert_eq!(load(Layer::new(), None, variables()).unwrap().config.id(), node(1));
    assert_eq!(load(Layer::new(), Some(&two), variables()).unwrap().config.id(), node(2));
}

#[test]
fn advertised_addresses_follow_from_what_is_known() {
    let told = |flags: &str| {
        let flags = format!("--id 1 --data-dir d {flags}");
        Start { flags: &flags, ..Start::default() }.config().client_address(99).to_string()
    };
    assert_eq!(told("--listen a:0"), "a:99");
    assert_eq!(told("--listen a:0 --advertise c:1"), "c:1");
    assert_eq!(told("--listen a:7 --cluster 1=e:7"), "a:99");
    assert_eq!(told("--listen 0.0.0.0:7 --cluster 1=e:7"), "e:7");
    assert_eq!(told("--listen [::]:7 --advertise c:1"), "c:1");
}

#[test]
fn a_newcomer_says_whom_to_ask_and_where_it_is() {
    let config = |flags: &str| Start { flags: &with_flags(flags), ..Start::default() }.config();
    assert_eq!(config("--join b:2,[::1]:3").join(), [address("b:2"), address("[::1]:3")]);
    assert!(config("--cluster 1=a:7001").join().is_empty());
    assert_eq!(config("--join b:2 --advertise-peer a:9").advertise_peer(), Some(&address("a:9")));

    let everywhere = "--id 1 --data-dir d --listen 0.0.0.0:1 --advertise a:1 --join b:2";
    let error = Start { flags: everywhere, ..Start::default() }.load().unwrap_err();
    assert!(error.to_string().contains("--advertise-peer HOST:PORT"), "{error}");
    let told = format!("{everywhere} --advertise-peer a:1");
    Start { flags: &told, ..Start::default() }.load().unwrap();
}

#[test]
fn warnings_name_what_may_be_meant_otherwise() {
    let warnings = |flags: &str| {
        let flags = with_flags(flags);
        Start { flags: &flags, ..Start::default() }.config().warnings()[1..].to_vec()
    };
    assert_eq!(warnings("--cluster 1=a:7001,2=b:7001,3=c:7001"), []);
    assert_eq!(warnings("--cluster 1=a:1"), []);
    assert_eq!(warnings("--cluster 1=a:7001,2=b:7001"), [Warning::EvenCluster { members: 2 }]);
    assert_eq!(
        warnings("--cluster 1=a:7001,2=b:1,3=c:1 --dial 2=p:1 --dial 4=p:2"),
        [Warning::DialsStranger { id: node(4) }]
    );
    let differs = Warning::PeerPortDiffers { address: address("a:1"), listen: address("127.0.0.1:7001") };
    assert_eq!(warnings("--cluster 1=a:1,2=b:1,3=c:1"), [differs]);
    assert_eq!(warnings("--cluster 1=a:1,2=b:1,3=c:1 --advertise-peer a:1"), []);
}

/// The printed configuration, as a file.
fn reread(loaded: &Loaded) -> Loaded {
    let printed = loaded.to_toml();
    Start { file: Some(printed.as_bytes()), ..Start::default() }
        .load()
        .unwrap_or_else(|error| panic!("{error}\n{printed}"))
}

proptest! {
    #[test]
    fn the_printed_configuration_reads_back_as_itself(
        id in 1_u64..,
        data_dir in "[^\0-\u{20}\u{7f}-\u{a0}]{1,12}",
        min_ms in 100_u64..1000,
        spread_ms in 0_u64..1000,
        heartbeat_ms in 1_u64..50,
        dial in proptest::collection::btree_map(1_u64..9, 1_u16.., 0..4),
        key_bytes in 1_u64..=4 << 10,
        json in any::<bool>(),
        peers in proptest::option::of(1_u16..),
        joins in any::<bool>(),
    ) {
        let mut file = format!("id = {id}\n\"data_dir\" = {}\nlisten = \"[::1]:0\"\n", toml::Value::from(data_dir.as_str()));
        file += &format!("election-timeout = \"{min_ms}ms..{}ms\"\nheartbeat_interval = \"{heartbeat_ms}ms\"\n", 2 * min_ms + spread_ms);
        file += &format!("max-key-bytes = {key_bytes}\nmax-value-bytes = \"1000KiB\"\n");
        let dial: Vec<String> = dial.iter().filter(|(peer, _)| **peer != id).map(|(peer, port)| format!("\"{peer}=a:{port}\"")).collect();
        if !dial.is_empty() {
            file += &format!("dial = [{}]\n", dial.join(","));
        }
        if let Some(port) = peers {
            file += &format!("cluster = \"{id}=x:{port}\"\npeer-listen = \"0.0.0.0:{port}\"\n");
        }
        if peers.is_none() && joins {
            file += "join = [\"x:1\", \"[::1]:2\"]\n";
        }
        if json {
            file += "log-format = \"json\"\n";
        }
        let loaded = Start { file: Some(file.as_bytes()), ..Start::default() }.load().unwrap();
        prop_assert_eq!(&reread(&loaded).config, &loaded.config);
    }

    #[test]
    fn no_file_makes_the_reader_panic(content in any::<Vec<u8>>(), text in "([a-z-]{1,9}( = |\n|\"|[0-9]|\\[|\\]|\\{|,)?){0,12}") {
        for content in [content.as_slice(), text.as_bytes()] {
            if let Err(error) = (Start { flags: MINIMAL, file: Some(content), ..Start::default() }).load() {
                prop_assert!(!error_line(&error).contains(|c: char| c.is_control()));
            }
        }
    }
}

#[test]
fn the_operators_table_has_every_setting_with_its_default() {
    let manual = include_str!("../../../../docs/operations.md");
    for setting in Setting::ALL {
        let start = match setting.default() {
            Some(default) => format!("| `{setting}` | `{default}` |"),
            None => format!("| `{setting}` | "),
        };
        assert_eq!(manual.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
    }
}
