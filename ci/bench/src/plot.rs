//! The plot: a panel of bars for each of four questions. Inline in a page or alone, in light and in dark.

use crate::{
    report::{Row, number},
    works::PIDFLOCK,
};
use std::fmt::Write;

/// What a panel shows: two cells of the table, and its title.
const PANELS: [(&str, &str, &str); 4] = [
    ("cycle", "tmpfs", "Acquire, stamp, release on tmpfs"),
    ("cycle-fsync", "ext4", "The same on ext4, flushed"),
    ("command", "tmpfs", "Start and end /bin/true"),
    ("hand-over, death", "tmpfs", "From a holder's death to the next holder"),
];

const WIDTH: usize = 950;
const MARGIN: usize = 24;
const PANEL: usize = WIDTH / 2;
const LABEL: usize = 205;
/// The longest bar; its number is to its right.
const BAR: f64 = 145.0;
const LINE: usize = 24;
const HEAD: usize = 62;

const STYLE: &str = "\
  .speed-page { fill: #ffffff }
  .speed text { fill: #1f2328 }
  .speed-bar { fill: #c3d3e8 } .speed-ours { fill: #1a7f37 } .speed-floor { fill: none; stroke: #57728f; stroke-dasharray: 4 3 }
  .speed-spread { fill: none; stroke: #57728f; stroke-width: 1.5 }
  .speed .speed-name { font-weight: 600 } .speed .speed-note { font-size: 13px; fill: #59636e }
  .speed .speed-label { text-anchor: end; font-size: 14px }
  @media (prefers-color-scheme: dark) {
    .speed-page { fill: #0d1117 } .speed text { fill: #e6edf3 } .speed .speed-note { fill: #9da7b1 }
    .speed-bar { fill: #33485f } .speed-ours { fill: #3fb950 } .speed-floor, .speed-spread { stroke: #8ba6c4 }
  }
";

const DESCRIPTION: &str = "Four charts of bars in microseconds: pidflock beside the floors and beside other libraries and commands. \
     The table in the README has the numbers.";

/// None if a panel was not measured.
pub fn draw(rows: &[Row]) -> Option<String> {
    let panels = PANELS.map(|(what, place, title)| {
        (title, rows.iter().filter(|row| row.what == what && row.place == place).collect::<Vec<&Row>>())
    });
    if panels.iter().any(|(_, rows)| rows.is_empty()) {
        return None;
    }
    let height = |pair: &[(&str, Vec<&Row>)]| HEAD + LINE * pair.iter().map(|panel| panel.1.len()).max().unwrap_or(0);
    let [above, below] = [&panels[..2], &panels[2..]].map(height);
    let mut body = String::new();
    for (number, (title, rows)) in panels.iter().enumerate() {
        panel(&mut body, number % 2 * PANEL, MARGIN + number / 2 * above, title, rows);
    }
    let total = 2 * MARGIN + above + below;
    let note = "Medians in microseconds; the thin line spans the middle half of the measurements.";
    Some(format!(
        "<svg class=\"speed\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" role=\"img\" \
         aria-labelledby=\"speed-t speed-d\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" \
         font-size=\"15\">\n<title id=\"speed-t\">The speed of pidflock beside others</title>\n\
         <desc id=\"speed-d\">{DESCRIPTION}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"speed-page\" width=\"{WIDTH}\" height=\"{total}\" rx=\"10\"/>\n{body}\
         <text class=\"speed-note\" x=\"{MARGIN}\" y=\"{}\">{note}</text>\n</svg>\n",
        total - MARGIN / 2
    ))
}

fn panel(body: &mut String, x: usize, y: usize, title: &str, rows: &[&Row]) {
    let longest = rows.iter().map(|row| row.measured[1]).fold(0.0, f64::max);
    let scale = BAR / longest;
    add(body, format!("<text class=\"speed-name\" x=\"{}\" y=\"{}\">{title}</text>", x + MARGIN, y + 14));
    for (line, row) in rows.iter().enumerate() {
        let [low, median, high] = row.measured.map(|value| (value * scale).min(1.1 * BAR));
        let (left, top) = (x + MARGIN + LABEL, y + 30 + line * LINE);
        let class = match row.who.as_str() {
            who if who.starts_with(PIDFLOCK) || who.starts_with("Wait::") => "speed-ours",
            who if who.contains("floor") || who.contains("alone") => "speed-floor",
            _ => "speed-bar",
        };
        let weight = if class == "speed-ours" { " speed-name" } else { "" };
        let (middle, text, start) = (top + 7, top + 12, left as f64);
        add(body, format!("<text class=\"speed-label{weight}\" x=\"{}\" y=\"{text}\">{}</text>", left - 8, row.who));
        add(body, format!("<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{median:.1}\" height=\"14\"/>"));
        let (from, to) = (start + low, start + high);
        add(body, format!("<path class=\"speed-spread\" d=\"M{from:.1} {middle}H{to:.1}\"/>"));
        let (end, value) = (start + high.max(median) + 7.0, number(row.measured[1]));
        add(body, format!("<text class=\"speed-note\" x=\"{end:.1}\" y=\"{text}\">{value}</text>"));
    }
}

fn add(body: &mut String, element: String) {
    writeln!(body, "{element}").expect("a string");
}
