//! A chart as SVG: medians joined by lines, the range from minimum to maximum as bars.

use std::fmt::Write;

use crate::spread::Spread;
use crate::table::figure;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 70.0;
/// Told apart by lightness too, for those who see no hues.
const COLOURS: [&str; 6] = [
    "#0b4f8a", "#d1720f", "#2f8f4e", "#7a3b9a", "#b02a37", "#5a5a5a",
];

/// How values are laid along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten, for what spans decades.
    Log,
}

/// What is along the bottom.
#[derive(Debug, Clone)]
pub enum Along {
    /// Numbers.
    Numbers {
        /// What they are, with the unit.
        label: String,
        /// How they are laid out.
        scale: Scale,
    },
    /// Names; a point's `x` is the index of its name.
    Names(Vec<String>),
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Position along the bottom and the spread there.
    pub points: Vec<(f64, Spread)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Along the bottom.
    pub along: Along,
    /// What the height is, with the unit.
    pub height: String,
    /// How the height is laid out.
    pub scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
}

/// Where values lie on one axis, in pixels.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let positive = |value: &f64| scale == Scale::Linear || *value > 0.0;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(positive) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => {
                let step = step_of(high.max(1e-9));
                (low, high) = (0.0, (high / step).ceil().max(1.0) * step);
            }
            Scale::Log => {
                low = 10f64.powf(low.log10().floor());
                high = 10f64.powf(high.log10().ceil());
                if low >= high {
                    high = low * 10.0;
                }
            }
        }
        Self {
            scale,
            low,
            high,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => {
                let value = value.max(self.low);
                (value / self.low).log10() / (self.high / self.low).log10()
            }
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step_of(self.high);
                let count = (self.high / step).round() as u32;
                (0..=count).map(|n| f64::from(n) * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                (0..=decades).map(|n| self.low * 10f64.powi(n)).collect()
            }
        }
    }
}

/// One, two or five times a power of ten, so that about five steps make `high`.
fn step_of(high: f64) -> f64 {
    let rough = high / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fit = steps.iter().find(|step| *step * power >= rough * 0.999);
    fit.unwrap_or(&10.0) * power
}

impl Chart {
    /// The chart as a file's content.
    pub fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let bottom = HEIGHT - BOTTOM;
        let right = WIDTH - RIGHT;
        let heights = all().flat_map(|(_, spread)| [spread.min, spread.max]);
        let y = Axis::over(self.scale, heights, bottom, TOP);
        let x = match &self.along {
            Along::Numbers { scale, .. } => Axis::over(*scale, all().map(|(x, _)| *x), LEFT, right),
            Along::Names(names) => Axis {
                scale: Scale::Linear,
                low: -0.5,
                high: names.len() as f64 - 0.5,
                from: LEFT,
                to: right,
            },
        };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut out, (LEFT, 24.0), "font-size=\"15\"", &self.title);
        self.draw_height(&mut out, &y);
        self.draw_along(&mut out, &x);
        for (at, series) in self.series.iter().enumerate() {
            draw_series(&mut out, at, series, (&x, &y));
        }
        out.push_str("</svg>\n");
        out
    }

    fn draw_height(&self, out: &mut String, y: &Axis) {
        let right = WIDTH - RIGHT;
        for tick in y.ticks() {
            let at = y.at(tick);
            line(out, (LEFT, at), (right, at), "#dddddd");
            text(
                out,
                (LEFT - 8.0, at + 4.0),
                "text-anchor=\"end\"",
                &short(tick),
            );
        }
        let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 20 {middle})\"");
        text(out, (20.0, middle), &turned, &self.height);
    }

    fn draw_along(&self, out: &mut String, x: &Axis) {
        let bottom = HEIGHT - BOTTOM;
        line(out, (LEFT, bottom), (WIDTH - RIGHT, bottom), "#333333");
        match &self.along {
            Along::Numbers { label, .. } => {
                for tick in x.ticks() {
                    let at = x.at(tick);
                    line(out, (at, bottom), (at, bottom + 5.0), "#333333");
                    text(
                        out,
                        (at, bottom + 20.0),
                        "text-anchor=\"middle\"",
                        &short(tick),
                    );
                }
                let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
                text(
                    out,
                    (middle, bottom + 45.0),
                    "text-anchor=\"middle\"",
                    label,
                );
            }
            Along::Names(names) => {
                for (index, name) in names.iter().enumerate() {
                    let at = x.at(index as f64);
                    let below = bottom + 18.0;
                    let tilted =
                        format!("text-anchor=\"end\" transform=\"rotate(-25 {at} {below})\"");
                    text(out, (at, below), &tilted, name);
                }
            }
        }
    }
}

fn draw_series(out: &mut String, index: usize, series: &Series, (x, y): (&Axis, &Axis)) {
    let colour = COLOURS[index % COLOURS.len()];
    let places: Vec<(f64, &Spread)> = series.points.iter().map(|(at, s)| (x.at(*at), s)).collect();
    let path: Vec<String> = places
        .iter()
        .map(|(at, spread)| format!("{at:.1},{:.1}", y.at(spread.median)))
        .collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (at, spread) in places {
        line(out, (at, y.at(spread.min)), (at, y.at(spread.max)), colour);
        let _ = writeln!(
            out,
            "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"><title>{} (min {}, max {}, {} runs)</title></circle>",
            y.at(spread.median),
            figure(spread.median),
            figure(spread.min),
            figure(spread.max),
            spread.runs
        );
    }
    let (left, top) = (WIDTH - RIGHT + 16.0, TOP + 10.0 + 20.0 * index as f64);
    line(out, (left, top), (left + 18.0, top), colour);
    text(out, (left + 24.0, top + 4.0), "", &series.name);
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>"
    );
}

/// A tick's number: `2.5M` rather than `2500000`.
fn short(value: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, letter)) => format!("{}{letter}", figure(value / unit)),
        None => figure(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale) -> Chart {
        let spread = |values: &[f64]| Spread::of(values).expect("values");
        Chart {
            title: "a < b".to_owned(),
            along: Along::Numbers {
                label: "rows".to_owned(),
                scale,
            },
            height: "events/s".to_owned(),
            scale,
            series: vec![Series {
                name: "bulk".to_owned(),
                points: vec![
                    (1.0, spread(&[900.0, 1_000.0, 1_100.0])),
                    (10_000.0, spread(&[2_400_000.0])),
                ],
            }],
        }
    }

    #[test]
    fn axes_hold_every_value() {
        for scale in [Scale::Linear, Scale::Log] {
            let values = [900.0, 2_400_000.0];
            let axis = Axis::over(scale, values.into_iter(), 370.0, 50.0);
            let (low, high) = (axis.at(900.0), axis.at(2_400_000.0));
            assert!(
                low <= 370.0 && high >= 50.0 && high < low,
                "{scale:?}: {low} {high}"
            );
            let ticks = axis.ticks();
            assert!((3..=12).contains(&ticks.len()), "{ticks:?}");
        }
    }

    #[test]
    fn a_chart_is_well_formed_and_escaped() {
        for scale in [Scale::Linear, Scale::Log] {
            let svg = chart(scale).svg();
            assert!(svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
            assert_eq!(svg.matches("<circle").count(), 2);
            assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        }
    }

    #[test]
    fn names_stand_below_their_points() {
        let mut named = chart(Scale::Linear);
        named.along = Along::Names(vec!["lz4".to_owned(), "zstd".to_owned()]);
        named.series[0].points[1].0 = 0.0;
        assert!(named.svg().contains(">zstd</text>"));
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(short(2_500_000.0), "2.5M");
        assert_eq!(short(0.0), "0");
    }
}
