//! Commands as they are typed.

use std::process::ExitCode;

use super::*;
use crate::shell::config::Protocol;
use crate::shell::run::Listening;

fn typed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with(&format!("Example: {path}")), "{path}: {help}");
            walk(sub, &path);
        }
    }
    walk(&command(), "cpmd");
}

#[test]
fn the_examples_of_the_help_can_be_typed() {
    fn walk(command: &clap::Command) {
        for sub in command.get_subcommands() {
            walk(sub);
            let Some(help) = sub.get_after_help() else { continue };
            let help = help.to_string();
            let example = help.trim_start_matches("Example: ").split(['>', '<', '(']).next();
            if let Err(error) = typed(example.unwrap()) {
                panic!("{help}: {error}");
            }
        }
    }
    walk(&command());
}

#[test]
fn no_command_means_dev() {
    assert!(typed("cpmd").unwrap().command.is_none());
}

#[test]
fn names_of_later_versions_exit_with_2() {
    for line in [
        "cpmd client --account sip:a@b register",
        "cpmd client --help",
        "cpmd store backup --to x",
        "cpmd store restore x",
        "cpmd trace --pcap x.pcap",
    ] {
        let code = run(line.split_whitespace().map(OsString::from));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)), "{line}");
    }
}

#[test]
fn wrong_arguments_are_explained_in_one_line() {
    for (line, part) in [
        ("cpmd srve", "a similar subcommand exists: 'serve'"),
        ("cpmd dev --dat x", "a similar argument exists: '--data'"),
        ("cpmd serve", "--config <CONFIG>"),
        ("cpmd dev --listen-port 70000", "65535"),
        ("cpmd account list --data x --config y", "cannot be used with"),
        ("cpmd bench --seconds 0", "invalid value '0' for '--seconds <SECONDS>'"),
        ("cpmd bench --rate 0", "invalid value '0' for '--rate <RATE>'"),
    ] {
        let text = one_line(&typed(line).unwrap_err().to_string());
        assert!(!text.contains('\n') && text.contains(part), "{line}: {text}");
        assert!(!text.starts_with("error"), "{text}");
    }
}

#[test]
fn half_a_command_exits_with_2_and_names_the_other_half() {
    for (line, said) in [
        ("cpmd account", "add one of add, list, passwd, remove (cpmd account --help shows more)"),
        ("cpmd config", "add one of default (cpmd config --help shows more)"),
        ("cpmd store", "add one of check (cpmd store --help shows more)"),
    ] {
        assert_eq!(incomplete(&typed(line).unwrap_err()), Some(format!("{line}: {said}")));
    }
    for line in ["cpmd account", "cpmd config", "cpmd store", "cpmd bench --seconds 0"] {
        let code = run(line.split_whitespace().map(OsString::from));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)), "{line}");
    }
}

#[test]
fn a_password_on_the_command_line_does_not_print() {
    let cli = typed("cpmd account add sip:a@b --password planted").unwrap();
    assert!(!format!("{cli:?}").contains("planted"));
}

#[test]
fn the_data_directory_is_found_in_a_file_with_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cpmd.toml");
    std::fs::write(&file, "data = '/srv/x'\nnonsense = 1\n").unwrap();
    assert_eq!(data_of(&file), Ok("/srv/x".into()));
    let none = data_of(&dir.path().join("none.toml")).unwrap_err();
    assert!(none.contains("cpmd config default >"), "{none}");
}

#[test]
fn check_names_what_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = dir.path().join("cpmd.toml");
    let write = |data: &str, more: &str| {
        let text = format!(
            "data = '{data}'\n{more}\n[[domain]]\nname = 'a.example'\n\
             [listen]\nsip = ['udp:127.0.0.1:{port}', 'tcp:127.0.0.1:0']\nhttp = []\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let data = dir.path().join("data");
    write(data.to_str().unwrap(), "");
    let found = check::examine(Some(&file)).unwrap();
    assert_eq!(found.errors.len(), 1, "{found:?}");
    assert!(found.errors[0].fix.contains(&port.to_string()), "{found:?}");
    assert_eq!(found.warnings[0].key, "listen.http");
    assert!(!data.exists(), "looking changes nothing");

    write(file.to_str().unwrap(), "nonsense = 1");
    let found = check::examine(Some(&file)).unwrap();
    let keys: Vec<&str> = found.errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["nonsense", "data"], "{found:?}");
}

#[test]
fn the_banner_says_how_to_point_a_softphone_here() {
    let config = Config::dev("somewhere".into());
    let listening = Listening {
        sip: vec![
            (Protocol::Udp, "127.0.0.1:5081".parse().unwrap()),
            (Protocol::Tcp, "[::1]:5082".parse().unwrap()),
        ],
        operator_socket: "somewhere/operator.sock".into(),
    };
    let text = serve::banner(&config, &listening);
    println!("{text}");
    for part in [
        "sip:bob@b.example     password secret",
        "udp:127.0.0.1:5081 tcp:[::1]:5082",
        "<sip:alice@a.example>;auth_user=alice;auth_pass=secret;\
         outbound=\"sip:127.0.0.1:5081;transport=udp\"",
        "cpmd trace --data somewhere",
        "cpmd demo",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
