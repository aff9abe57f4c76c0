//! A plan over the club's marked data names nobody, in any of its faces, and neither do its errors.

use super::{Club, MARK, NOW};

const FACES: [&str; 4] = ["text", "markdown", "html", "json"];

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_nobody() {
    for club in Club::both().await {
        // With a run before it, and an audience that stands.
        let ran = club.call(&["run", "club", "--until-idle", "--now", NOW]);
        assert_eq!(ran.code, 0, "{ran:?}");
        for face in FACES {
            let ran = club.look(&["plan", "club", "-o", face]);
            assert_eq!(ran.code, 0, "{ran:?}");
            for said in ["letter", "Zo\u{eb}", "MalformedAddress"] {
                assert!(ran.out.contains(said), "{face}: no {said} in\n{}", ran.out);
            }
            let private = club.home.call(&["plan", "club", "-o", face, "--data", "--now", NOW]);
            assert!(private.code == 0 && !private.out.to_lowercase().contains(MARK), "{private:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_do_its_errors() {
    for club in Club::both().await {
        let text = club.home.read("club/club.yaml");
        // It divides by zero for one of them.
        let (before, rest) = text.split_once("member.country != \"IT\" && !(").unwrap();
        let (_, after) = rest.split_once("100 / member.points > 1").unwrap();
        let faulty = format!("{before}100 / member.points > 1{after}");
        club.home.write("club/club.yaml", &faulty);
        for face in FACES {
            let ran = club.look(&["plan", "club", "-o", face]);
            let why = "step `who`: `100 / member.points` (1:1 of the rule) divides by zero or overflows";
            let why = if face == "html" { "divides by zero or overflows" } else { why };
            assert!(ran.code == 0 && ran.out.contains(why), "{ran:?}");
        }
        // What the database says of it may hold a value.
        club.home.write("club/club.yaml", &text.replace("[shop, number]", "[note, number]"));
        for face in FACES {
            club.look(&["plan", "club", "-o", face]);
        }
    }
}

#[test]
fn real_people_are_shown_on_a_terminal_only() {
    let home = crate::home::Home::new();
    home.write("club/club.yaml", super::CLUB);
    for more in [&["-o", "text"][..], &["-o", "html"], &["--out", "plan.txt"]] {
        let ran = home.call(&[&["plan", "club", "--real-samples"], more].concat());
        assert!(ran.code == 2 && ran.err.contains("only as text on a terminal"), "{ran:?}");
    }
}
