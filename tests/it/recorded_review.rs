//! `examples/review`: what a reviewer gets is what is recorded there, and its page can be read in a browser, light and dark,
//! wide and narrow: nothing overlaps, nothing is cut.
//!
//! `CAMPANILE_RECORD=1 cargo test --test it -- recorded_review` records it anew.

use std::{fs, path::Path, process::Command};

use crate::{
    home::{Home, repository},
    world::program,
};

const ARGS: [&str; 7] =
    ["plan", "examples/review/change", "--base", "examples/review/.base", "--data", "--now", "2026-05-04T06:00:00Z"];

fn plan(format: &str) -> String {
    let mut command = Home::new().command(&[&ARGS[..], &["-o", format]].concat());
    let ran = command.current_dir(repository()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn what_comes_out_is_what_is_recorded() {
    for (format, name) in [("markdown", "plan.md"), ("html", "plan.html"), ("json", "plan.json")] {
        let (path, now) = (repository().join("examples/review").join(name), plan(format));
        if std::env::var_os("CAMPANILE_RECORD").is_some() {
            fs::write(&path, &now).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        assert!(recorded == now, "{name} is no longer what `campanile {} -o {format}` writes:\n{now}", ARGS.join(" "));
    }
    let markdown = plan("markdown");
    assert!(markdown.len() < 65_536);
    // Nobody of the data stands in it: only those who were declared for it, and do not exist.
    let people = fs::read_to_string(repository().join("examples/review/change/data/customers.csv")).unwrap();
    let addresses = people.lines().skip(1).filter_map(|line| line.split(',').nth(2)).filter(|mail| mail.contains('@'));
    for address in addresses {
        assert!(!markdown.contains(address) && !plan("json").contains(address), "{address}");
    }
}

/// What is wrong with the layout, in words: asked of the page itself, once it is laid out.
pub const ASK: &str = r#"<script>
addEventListener('load', () => {
  const wrong = [], box = e => e.getBoundingClientRect(), name = e => e.tagName + ' ' + e.textContent.trim().slice(0, 40);
  const root = document.documentElement;
  document.querySelectorAll('details').forEach(d => d.open = true);
  if (root.scrollWidth > root.clientWidth) wrong.push('the page is ' + root.scrollWidth + ' wide in ' + root.clientWidth);
  const scrolls = e => { for (let p = e; p; p = p.parentElement) if (/auto|scroll/.test(getComputedStyle(p).overflowX)) return true; return false; };
  for (const e of document.querySelectorAll('main *')) {
    const style = getComputedStyle(e);
    if (style.overflowX === 'hidden' && e.scrollWidth > e.clientWidth + 1) wrong.push('cut: ' + name(e));
    if (!e.closest('svg') && !scrolls(e) && box(e).right > root.clientWidth + 1) wrong.push('outside: ' + name(e));
  }
  for (const svg of document.querySelectorAll('svg')) {
    const frame = box(svg), texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    texts.forEach((t, i) => {
      const a = box(t);
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1) wrong.push('cut: ' + name(t));
      for (const u of texts.slice(i + 1)) {
        const b = box(u);
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2) wrong.push('overlap: ' + name(t) + ' / ' + name(u));
      }
    });
  }
  const blocks = [...document.querySelectorAll('main > *')].filter(e => box(e).height > 0);
  blocks.forEach((e, i) => { const next = blocks[i + 1]; if (next && box(next).top < box(e).bottom - 1) wrong.push('overlap: ' + name(e) + ' / ' + name(next)); });
  const ink = getComputedStyle(document.body).color, paper = getComputedStyle(document.body).backgroundColor;
  document.body.innerHTML = '<pre id="answer">' + (wrong.join('\n') || 'all is in its place') + '\n' + ink + ' on ' + paper + '</pre>';
});
</script>"#;

/// Chromium's answer about the page in a window of that width; a screenshot is left beside it.
pub fn ask(page: &Path, width: u32, is_dark: bool) -> String {
    let chromium = program("chromium", "chromium").unwrap();
    let profile = tempfile::tempdir().unwrap();
    let look = |more: &[&str]| {
        let mut command = Command::new(&chromium);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("--window-size={width},1400"));
        if is_dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
        let ran = command.args(more).arg(format!("file://{}", page.display())).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let dom = look(&["--dump-dom", "--virtual-time-budget=2000"]);
    let answer = dom.split("<pre id=\"answer\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    answer.unwrap_or_else(|| panic!("no answer in {dom}")).to_owned()
}

#[test]
fn its_page_is_laid_out_well_in_light_and_dark_wide_and_narrow() {
    let home = Home::new();
    // The page allows no script; the question is one.
    let page = plan("html");
    let elsewhere = ["src=", "href=", "url(", "@import"];
    assert!(!elsewhere.iter().any(|word| page.contains(word)), "it needs nothing else");
    let (before, rest) = page.split_once("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let asking = format!("{before}{}", rest.split_once('>').unwrap().1).replace("</body>", &format!("{ASK}</body>"));
    let path = home.write("page.html", &asking);
    let mut looks = vec![];
    for width in [1280, 500] {
        for is_dark in [false, true] {
            let answer = ask(&path, width, is_dark);
            let (verdict, look) = answer.trim().rsplit_once('\n').unwrap();
            assert_eq!(verdict, "all is in its place", "{width} wide, dark: {is_dark}");
            looks.push(look.to_owned());
        }
    }
    assert!(looks[0] == looks[2] && looks[1] == looks[3] && looks[0] != looks[1], "light and dark differ: {looks:?}");
}
