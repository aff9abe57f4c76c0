//! The files in docs/ci/ that people copy: they are well-formed, ask for no more rights than they need, call commands
//! that there are, and the script that they share does what it says.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;

use crate::home::{Home, people_manifests};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap()
}

const FILES: [&str; 5] = [
    "docs/ci/review.sh",
    "docs/ci/github/action.yml",
    "docs/ci/github/workflow.yml",
    "docs/ci/gitlab/review.yml",
    ".pre-commit-hooks.yaml",
];

/// What is called of campanile: the command, and the flags that are given to it.
fn calls(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let text = text.replace("\\\n", " ");
    let mut found = vec![];
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let line = line.strip_prefix("entry: ").unwrap_or(line);
        for prefix in ["\"$campanile\" ", "campanile "] {
            let Some(call) = line.strip_prefix(prefix) else { continue };
            let mut words = call.split_whitespace();
            let command = words.next().unwrap().to_owned();
            let flags = words.filter(|word| word.starts_with("--")).map(|word| word.trim_matches('"').to_owned());
            found.push((command, flags.collect()));
        }
    }
    found
}

#[test]
fn they_call_commands_that_there_are() {
    let home = Home::new();
    let mut commands = BTreeSet::new();
    for file in FILES {
        for (command, flags) in calls(&read(file)) {
            let help = home.call(&[&command, "--help"]);
            commands.insert(command.clone());
            assert_eq!(help.code, 0, "{file}: campanile {command}");
            for flag in flags {
                assert!(help.out.contains(&format!("{flag} ")), "{file}: campanile {command} {flag}\n{}", help.out);
            }
        }
    }
    // What the script puts together.
    for (command, flags) in
        [("plan", &["--base", "--store", "--untrusted"][..]), ("validate", &["--warnings-as-errors"][..])]
    {
        let help = home.call(&[command, "--help"]).out;
        flags.iter().for_each(|flag| assert!(help.contains(flag), "{command} {flag}"));
    }
    assert_eq!(commands, ["plan", "test", "validate"].map(str::to_owned).into());
}

#[test]
fn the_workflow_may_do_little() {
    let workflow = yaml("docs/ci/github/workflow.yml");
    let triggers: Vec<&String> = workflow["on"].as_object().unwrap().keys().collect();
    assert_eq!(triggers, ["pull_request"]);
    let permissions = serde_json::json!({"contents": "read", "pull-requests": "write"});
    assert_eq!(workflow["permissions"], permissions);
    for step in workflow["jobs"]["review"]["steps"].as_array().unwrap() {
        let (action, at) = step["uses"].as_str().unwrap().split_once('@').unwrap();
        let is_pinned = at.len() == 40 && at.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(is_pinned || action.starts_with("campanile-dev/campanile/"), "{action}@{at}");
    }
    let action = yaml("docs/ci/github/action.yml");
    assert_eq!(action["runs"]["using"], "composite");
    for step in action["runs"]["steps"].as_array().unwrap() {
        // No action of others, and nothing that a stranger wrote in the text of a script.
        assert!(step["uses"].is_null() && step["shell"] == "bash", "{step}");
        assert!(!step["run"].as_str().unwrap().contains("${{"), "{step}");
        checked("bash", step["run"].as_str().unwrap());
    }
    for file in FILES {
        let said = read(file);
        let text: Vec<&str> = said.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        assert!(!text.join("\n").contains("pull_request_target"), "{file}");
    }
}

#[test]
fn the_job_and_the_hooks_are_what_their_readers_expect() {
    let job = yaml("docs/ci/gitlab/review.yml")["campanile-review"].clone();
    let script = ["before_script", "script"].iter().flat_map(|part| job[*part].as_array().unwrap());
    let script: Vec<&str> = script.map(|line| line.as_str().unwrap()).collect();
    checked("sh", &script.join("\n"));
    assert_eq!(job["rules"][0]["if"], "$CI_PIPELINE_SOURCE == \"merge_request_event\"");
    assert_eq!(job["artifacts"]["reports"]["junit"], "campanile-review/junit.xml");
    for hook in yaml(".pre-commit-hooks.yaml").as_array().unwrap() {
        for field in ["id", "name", "entry", "language", "files"] {
            assert!(hook[field].is_string(), "{hook} has no {field}");
        }
        assert_eq!(hook["pass_filenames"], false);
        let entry: Vec<&str> = hook["entry"].as_str().unwrap().split(' ').collect();
        assert_eq!(entry[0], "campanile");
    }
}

/// A shell reads the text without complaint.
fn checked(shell: &str, text: &str) {
    let output = Command::new(shell).args(["-n", "-c", text]).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

/// A home with manifests, and a campanile beside it whose plan is so many lines long.
fn home(manifests: &str, lines: usize) -> Home {
    let home = Home::new();
    home.write("town/town.yaml", manifests);
    let real = env!("CARGO_BIN_EXE_campanile");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = plan ]; then echo \"$@\" >> calls; echo '```'; \
         i=0; while [ $i -lt {lines} ]; do echo \"line $i of a plan that is long\"; i=$((i + 1)); done; echo '```'\n\
         else exec {real} \"$@\"; fi\n"
    );
    let path = home.write("campanile", &script);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn review(home: &Home, variables: &[(&str, &str)]) -> i32 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci/review.sh");
    let mut command = Command::new("sh");
    command.arg(script).args(["out", "town"]).current_dir(home.path()).env("BASE", "main");
    command.env("CAMPANILE", home.path().join("campanile")).envs(variables.iter().copied());
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn the_script_writes_one_report_and_says_what_went_worst() {
    let good = people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}", "person.id > 0");
    let town = home(&good, 3);
    assert_eq!(review(&town, &[("STORE", "sqlite://store.db"), ("UNTRUSTED", "true")]), 0);
    let report = town.read("out/report.md");
    assert!(report.starts_with("<!-- campanile: review -->\n"), "{report}");
    assert!(report.contains("line 2 of a plan") && report.contains("warning[same-people-again]"), "{report}");
    assert!(
        town.read("calls")
            .starts_with("plan town --base main --store sqlite://store.db --untrusted --output markdown\n")
    );
    assert_eq!(review(&town, &[("STRICT", "true")]), 2);
    assert!(town.read("out/report.md").contains("line 2 of a plan"));
    let wrong = home(&good.replace("template: hello}", "template: helo}"), 3);
    assert_eq!(review(&wrong, &[]), 2);
    let report = wrong.read("out/report.md");
    assert!(report.contains("The manifests are wrong") && report.contains("error[missing-reference]"), "{report}");
    assert!(!wrong.path().join("calls").exists());
}

#[test]
fn the_report_fits_into_a_comment() {
    let good = people_manifests("", "person.id > 0");
    let town = home(&good, 5_000);
    assert_eq!(review(&town, &[]), 0);
    let (report, whole) = (town.read("out/report.md"), town.read("out/whole.md"));
    assert!(whole.len() > 100_000 && report.chars().count() <= 65_536, "{}", report.len());
    assert!(report.len() > 60_000 && report.trim_end().ends_with("in the files of the job."), "{}", report.len());
    // The block of code that was cut is closed.
    assert_eq!(report.lines().filter(|line| line.starts_with("```")).count() % 2, 0);
}

#[test]
fn it_is_a_plugin_of_kubectl() {
    let home = Home::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_campanile"), home.path().join("kubectl-campanile")).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let call = |args: &[&str]| {
        let output = Command::new("kubectl").args(args).env("PATH", &path).current_dir(home.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = call(&["campanile", "validate", "--help"]);
    assert!(help.contains("Usage: kubectl campanile validate"), "{help}");
    home.write("town/town.yaml", &people_manifests("", "true"));
    assert!(call(&["campanile", "validate", "town"]).contains("4 objects in 1 file"));
    assert!(call(&["campanile", "diff", "--help"]).contains("Usage: kubectl campanile diff"));
}
