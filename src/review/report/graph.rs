//! A campaign's steps as a drawing: from top to bottom, the rows that leave a step at its lower edge.
//!
//! Each step stands below all that it reads. A line that passes a row of steps gets a place of its own in it, so that no
//! line runs through a box.

use std::{collections::BTreeMap, fmt::Write};

use super::{CampaignView, Figure, StepView, html::escaped, lines};

/// Pixels of a character of the page's font at the size of the drawing; a bit more than it needs.
const CHAR: f64 = 7.6;
const LINE: f64 = 18.0;
const PAD: f64 = 12.0;
const GAP_X: f64 = 28.0;
const GAP_Y: f64 = 54.0;
const WIDTH_MIN: f64 = 130.0;
/// The place of a line that passes.
const LANE: f64 = 16.0;
/// Sweeps over the rows that bring what belongs together under each other.
const SWEEPS: usize = 6;

/// A box, or the place of a passing line.
struct Node {
    width: f64,
    height: f64,
    /// The step, where it is a box.
    step: Option<usize>,
    layer: usize,
    x: f64,
    y: f64,
}

/// From a node, at one of its outputs if it is a box, to a node one row below.
struct Edge {
    from: usize,
    port: Option<usize>,
    to: usize,
    is_last: bool,
}

/// What stands in a box.
struct Words {
    lines: Vec<(&'static str, String)>,
    ports: Vec<String>,
}

/// The drawing.
pub fn draw(view: &CampaignView) -> String {
    let words: Vec<Words> = view.steps.iter().map(words).collect();
    let (mut nodes, edges) = place(view, &words);
    let mut rows = rows(&nodes);
    arrange(&mut rows, &edges, nodes.len());
    let (width, height) = lay_out(&mut nodes, &rows);
    let mut svg = String::new();
    let label = format!("The steps of campaign {}", view.called());
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"img\" aria-label=\"{}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">",
        escaped(&label)
    );
    for edge in &edges {
        line(&mut svg, edge, &nodes, &words);
    }
    for node in &nodes {
        if let Some(step) = node.step {
            draw_box(&mut svg, node, &view.steps[step], &words[step]);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn figure(figure: &Figure) -> String {
    figure.to_string()
}

fn words(step: &StepView) -> Words {
    let mut lines = vec![("name", step.name.clone())];
    let mut ports = vec![];
    match &step.messages {
        Some(messages) => {
            lines.push(("what", format!("{} · {}", step.activity, messages.template)));
            lines.push(("plain", format!("{} enter", figure(&messages.entered.now))));
            let excluded = messages.excluded.iter();
            lines.extend(excluded.map(|e| ("held", format!("{} {}", figure(&e.rows.now), e.reason))));
            lines.push(("sent", format!("{} {}", figure(&messages.sent.now), lines::noun(&messages.sent))));
        }
        None => {
            lines.push(("what", step.activity.clone()));
            for output in &step.outputs {
                let branch = output.name.strip_prefix(&format!("{}.", step.name));
                let rows = figure(&output.rows.now);
                ports.push(branch.map_or_else(|| rows.clone(), |branch| format!("{branch} {rows}")));
            }
            if let Some(left) = step.left.as_ref().filter(|left| left.now.may_be_some()) {
                lines.push(("held", format!("{} left out", figure(&left.now))));
            }
        }
    }
    Words { lines, ports }
}

fn text_width(text: &str) -> f64 {
    // Characters of a name are few; a drawing with more of them than fit a float has other troubles.
    #[allow(clippy::cast_precision_loss)]
    let chars = text.chars().count() as f64;
    chars * CHAR
}

fn port_widths(words: &Words) -> Vec<f64> {
    words.ports.iter().map(|port| text_width(port) + PAD).collect()
}

/// The nodes, with the places of passing lines, and the edges from row to row.
fn place(view: &CampaignView, words: &[Words]) -> (Vec<Node>, Vec<Edge>) {
    let mut owner = BTreeMap::<&str, (usize, usize)>::new();
    let mut layers = vec![0_usize; view.steps.len()];
    let mut nodes = vec![];
    for (index, step) in view.steps.iter().enumerate() {
        let above = step.reads.iter().filter_map(|name| owner.get(name.as_str())).map(|(from, _)| layers[*from] + 1);
        layers[index] = above.max().unwrap_or(0);
        for (port, output) in step.outputs.iter().enumerate() {
            owner.insert(&output.name, (index, port));
        }
        let said = words[index].lines.iter().map(|(_, line)| text_width(line)).fold(0.0, f64::max) + 2.0 * PAD;
        let ports: f64 = port_widths(&words[index]).iter().sum::<f64>() + PAD;
        let rows = words[index].lines.len() + usize::from(!words[index].ports.is_empty());
        #[allow(clippy::cast_precision_loss)]
        let height = rows as f64 * LINE + PAD;
        let width = said.max(ports).max(WIDTH_MIN);
        nodes.push(Node { width, height, step: Some(index), layer: layers[index], x: 0.0, y: 0.0 });
    }
    let mut edges = vec![];
    for (index, step) in view.steps.iter().enumerate() {
        for (from, port) in step.reads.iter().filter_map(|name| owner.get(name.as_str())) {
            let (mut at, mut port) = (*from, Some(*port));
            for layer in layers[*from] + 1..layers[index] {
                nodes.push(Node { width: LANE, height: 0.0, step: None, layer, x: 0.0, y: 0.0 });
                edges.push(Edge { from: at, port, to: nodes.len() - 1, is_last: false });
                (at, port) = (nodes.len() - 1, None);
            }
            edges.push(Edge { from: at, port, to: index, is_last: true });
        }
    }
    (nodes, edges)
}

fn rows(nodes: &[Node]) -> Vec<Vec<usize>> {
    let count = nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let mut rows = vec![vec![]; count];
    for (index, node) in nodes.iter().enumerate() {
        rows[node.layer].push(index);
    }
    rows
}

/// Orders each row by where its neighbours are: downwards by those above, upwards by those below.
fn arrange(rows: &mut [Vec<usize>], edges: &[Edge], count: usize) {
    let mut at = vec![0.0_f64; count];
    let note = |row: &[usize], at: &mut Vec<f64>| {
        #[allow(clippy::cast_precision_loss)]
        row.iter().enumerate().for_each(|(place, node)| at[*node] = (place as f64 + 0.5) / row.len() as f64);
    };
    rows.iter().for_each(|row| note(row, &mut at));
    for sweep in 0..SWEEPS {
        let is_down = sweep % 2 == 0;
        let order: Vec<usize> = if is_down { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for row in order {
            let mean = |node: usize| {
                let near = edges.iter().filter_map(|edge| match is_down {
                    true if edge.to == node => Some(at[edge.from]),
                    false if edge.from == node => Some(at[edge.to]),
                    _ => None,
                });
                let near: Vec<f64> = near.collect();
                #[allow(clippy::cast_precision_loss)]
                let mean = near.iter().sum::<f64>() / near.len().max(1) as f64;
                if near.is_empty() { at[node] } else { mean }
            };
            let mut sorted: Vec<(f64, usize)> = rows[row].iter().map(|node| (mean(*node), *node)).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[row] = sorted.into_iter().map(|(_, node)| node).collect();
            note(&rows[row], &mut at);
        }
    }
}

/// Gives every node its place; the size of the whole.
fn lay_out(nodes: &mut [Node], rows: &[Vec<usize>]) -> (f64, f64) {
    let width_of =
        |row: &Vec<usize>, nodes: &[Node]| row.iter().map(|node| nodes[*node].width + GAP_X).sum::<f64>() - GAP_X;
    let width = rows.iter().map(|row| width_of(row, nodes)).fold(0.0, f64::max) + 2.0 * PAD;
    let mut y = PAD;
    for row in rows {
        let mut x = (width - width_of(row, nodes)) / 2.0;
        let height = row.iter().map(|node| nodes[*node].height).fold(0.0, f64::max);
        for node in row {
            let node = &mut nodes[*node];
            (node.x, node.y) = (x, y);
            if node.step.is_none() {
                // A line passes the whole row.
                node.height = height;
            }
            x += node.width + GAP_X;
        }
        y += height + GAP_Y;
    }
    (width, y - GAP_Y + PAD)
}

/// Where an output leaves its box.
fn port_x(node: &Node, words: &Words, port: usize) -> f64 {
    let widths = port_widths(words);
    let spare = (node.width - widths.iter().sum::<f64>()).max(0.0) / 2.0;
    let before: f64 = widths.iter().take(port).sum();
    node.x + spare + before + widths.get(port).copied().unwrap_or(0.0) / 2.0
}

fn line(svg: &mut String, edge: &Edge, nodes: &[Node], words: &[Words]) {
    let (from, to) = (&nodes[edge.from], &nodes[edge.to]);
    let x1 = match (from.step, edge.port) {
        (Some(step), Some(port)) => port_x(from, &words[step], port),
        _ => from.x + from.width / 2.0,
    };
    let (y1, x2, y2) = (from.y + from.height, to.x + to.width / 2.0, to.y);
    let bend = (y2 - y1) / 2.0;
    let (m1, m2) = (y1 + bend, y2 - bend);
    let _ = write!(svg, "<path class=\"edge\" d=\"M{x1:.1} {y1:.1}C{x1:.1} {m1:.1} {x2:.1} {m2:.1} {x2:.1} {y2:.1}");
    if !edge.is_last {
        let _ = write!(svg, "V{:.1}", to.y + to.height);
    }
    svg.push_str("\"/>\n");
    if edge.is_last {
        let (left, right, tip) = (x2 - 4.0, x2 + 4.0, y2 - 7.0);
        let _ = writeln!(svg, "<path class=\"tip\" d=\"M{left:.1} {tip:.1}L{x2:.1} {y2:.1}L{right:.1} {tip:.1}z\"/>");
    }
}

fn draw_box(svg: &mut String, node: &Node, step: &StepView, words: &Words) {
    let class = if step.messages.is_some() { "mail" } else { "step" };
    let (x, y, w, h) = (node.x, node.y, node.width, node.height);
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"6\"/>"
    );
    let middle = x + w / 2.0;
    let mut at = y + LINE;
    for (class, text) in &words.lines {
        let _ = writeln!(svg, "<text class=\"{class}\" x=\"{middle:.1}\" y=\"{at:.1}\">{}</text>", escaped(text));
        at += LINE;
    }
    for (port, text) in words.ports.iter().enumerate() {
        let x = port_x(node, words, port);
        let _ = writeln!(svg, "<text class=\"rows\" x=\"{x:.1}\" y=\"{at:.1}\">{}</text>", escaped(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::report::{OutputView, Tally};

    fn step(name: &str, reads: &[&str], outputs: &[&str]) -> StepView {
        let rows = Tally { now: Figure::Exact(1_234_567), base: None, last: None };
        StepView {
            name: name.to_owned(),
            activity: "split".to_owned(),
            reads: reads.iter().map(|name| (*name).to_owned()).collect(),
            outputs: outputs
                .iter()
                .map(|name| OutputView { name: (*name).to_owned(), entity: "person".to_owned(), rows: rows.clone() })
                .collect(),
            left: None,
            messages: None,
        }
    }

    /// a feeds b, c and, past both, e; many branches make a row wide.
    fn view() -> CampaignView {
        let steps = vec![
            step("a", &[], &["a.one-with-a-long-name", "a.two", "a.three"]),
            step("b", &["a.one-with-a-long-name"], &["b"]),
            step("c", &["b", "a.two"], &["c"]),
            step("d", &["a.three"], &["d"]),
            step("e", &["c", "d", "a.three"], &["e"]),
        ];
        CampaignView { steps, ..CampaignView::default() }
    }

    #[test]
    fn no_box_overlaps_another_and_no_line_runs_through_one() {
        let view = view();
        let words: Vec<Words> = view.steps.iter().map(words).collect();
        let (mut nodes, edges) = place(&view, &words);
        let mut rows = rows(&nodes);
        arrange(&mut rows, &edges, nodes.len());
        let (width, height) = lay_out(&mut nodes, &rows);
        for (index, a) in nodes.iter().enumerate() {
            assert!(a.x >= 0.0 && a.y >= 0.0 && a.x + a.width <= width && a.y + a.height <= height);
            for b in &nodes[index + 1..] {
                let apart =
                    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                assert!(apart, "{:?} and {:?}", a.step, b.step);
            }
        }
        // Between two rows a line stays between them: it begins and ends at their edges.
        for edge in &edges {
            assert_eq!(nodes[edge.from].layer + 1, nodes[edge.to].layer);
        }
        assert_eq!(draw(&view).matches("<rect").count(), 5);
    }
}
