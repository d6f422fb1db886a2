//! Plots for people: lines, dots and bars over two axes, as SVG. Needs no fonts of the system; the
//! viewer has them.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::files::write_whole;

const SIZE: (u32, u32) = (720, 480);
/// Width of a letter of the legend, about.
const LETTER: u32 = 8;
/// Told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
];

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Points joined in their order.
    Line,
    /// Points.
    Dots,
    /// Columns from zero, centred on each x, see-through where they overlap.
    Bars,
}

/// Points of one kind under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Stands in the legend.
    pub name: String,
    /// How it is drawn.
    pub kind: Kind,
    /// (x, y), finite, at least one.
    pub points: Vec<(f64, f64)>,
}

/// Some series over the same axes, which fit themselves to the points.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// What the x axis shows, with its unit.
    pub x: String,
    /// What the y axis shows, with its unit.
    pub y: String,
    /// Drawn in this order, the last on top.
    pub series: Vec<Series>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Plot {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// If there is no series, one is empty, or a point is not finite: the message names the series.
    pub fn svg(&self) -> Result<String> {
        self.draw().with_context(|| format!("plot \"{}\"", self.title))
    }

    /// Writes the plot into a file, whole or not at all.
    ///
    /// # Errors
    /// As [`Plot::svg`], or if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, self.svg()?.as_bytes())
    }

    fn draw(&self) -> Result<String> {
        ensure!(!self.series.is_empty(), "there is nothing to draw: no series");
        self.series.iter().try_for_each(Series::check)?;
        let (x, y) = self.ranges();
        let letters = self.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
        let size = (SIZE.0 + 60 + LETTER * u32::try_from(letters)?.min(60), SIZE.1);
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, legend) = root.split_horizontally(SIZE.0);
        let mut chart = ChartBuilder::on(&left)
            .caption(printable(&self.title), ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(printable(&self.x)).y_desc(printable(&self.y));
        mesh.label_style(("sans-serif", 15)).light_line_style(TRANSPARENT).draw()?;
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            series.draw(&mut chart, colour)?;
            series.explain(&legend, 50 + 24 * i32::try_from(index)?, colour)?;
        }
        root.present()?;
        drop((chart, left, legend, root));
        Ok(svg)
    }

    /// What the axes span: every point, and zero and the whole width where there are bars.
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        for series in &self.series {
            let half = if series.kind == Kind::Bars { series.bar() / 2.0 } else { 0.0 };
            xs.extend(series.points.iter().flat_map(|(x, _)| [x - half, x + half]));
            ys.extend(series.points.iter().map(|(_, y)| *y));
            ys.extend((series.kind == Kind::Bars).then_some(0.0));
        }
        (span(&xs), span(&ys))
    }
}

impl Series {
    fn check(&self) -> Result<()> {
        ensure!(!self.points.is_empty(), "series \"{}\" has no points", self.name);
        for (index, (x, y)) in self.points.iter().enumerate() {
            // Far beyond what is measured, and axes cannot be divided there.
            let is_sound = x.abs() <= 1e100 && y.abs() <= 1e100;
            ensure!(is_sound, "series \"{}\", point {index}: ({x}, {y}) is not finite", self.name);
        }
        Ok(())
    }

    /// The width of a bar: bars that are nearest to each other just do not touch.
    fn bar(&self) -> f64 {
        let mut xs: Vec<f64> = self.points.iter().map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        let gaps = xs.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0);
        let nearest = gaps.fold(f64::INFINITY, f64::min);
        if nearest.is_finite() { 0.9 * nearest } else { 0.9 }
    }

    fn draw(&self, chart: &mut Chart<'_, '_>, colour: RGBColor) -> Result<()> {
        let points = self.points.iter().copied();
        match self.kind {
            Kind::Line => chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?,
            Kind::Dots => {
                chart.draw_series(points.map(|at| Circle::new(at, 4, colour.filled())))?
            }
            Kind::Bars => {
                let (half, style) = (self.bar() / 2.0, colour.mix(0.6).filled());
                let bar = |(x, y)| Rectangle::new([(x - half, 0.0), (x + half, y)], style);
                chart.draw_series(points.map(bar))?
            }
        };
        Ok(())
    }

    /// Its line of the legend.
    fn explain(&self, legend: &Area<'_>, y: i32, colour: RGBColor) -> Result<()> {
        match self.kind {
            Kind::Line => {
                legend.draw(&PathElement::new([(4, y), (28, y)], colour.stroke_width(2)))?;
            }
            Kind::Dots => legend.draw(&Circle::new((16, y), 4, colour.filled()))?,
            Kind::Bars => {
                let style = colour.mix(0.6).filled();
                legend.draw(&Rectangle::new([(8, y - 7), (24, y + 7)], style))?;
            }
        }
        Ok(legend.draw(&Text::new(printable(&self.name), (36, y - 7), ("sans-serif", 16)))?)
    }
}

/// From the least to the greatest with a margin; some width even if they are equal.
fn span(values: &[f64]) -> Range<f64> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let size = least.abs().max(greatest.abs());
    let margin = if greatest - least > 1e-9 * size {
        0.03 * (greatest - least)
    } else {
        (0.1 * size).max(1e-3)
    };
    least - margin..greatest + margin
}

/// XML has no place for control characters, not even escaped.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(series: Vec<Series>) -> Plot {
        let [title, x, y] = ["A title", "seconds", "share"].map(str::to_owned);
        Plot { title, x, y, series }
    }

    fn series(name: &str, kind: Kind, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), kind, points: points.to_vec() }
    }

    /// Every tag that is opened is closed, in order; gives the text between tags.
    fn texts(svg: &str) -> Vec<String> {
        let (mut open, mut texts) = (Vec::new(), Vec::new());
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            let text = rest[..start].trim();
            texts.extend((!text.is_empty()).then(|| text.to_owned()));
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().expect("a name")),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        texts
    }

    #[test]
    fn everything_is_drawn_and_named() {
        let points = [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)];
        let all = [(Kind::Line, "first"), (Kind::Dots, "second"), (Kind::Bars, "third")];
        let svg = plot(all.map(|(kind, name)| series(name, kind, &points)).to_vec()).svg().unwrap();
        let texts = texts(&svg);
        for name in ["A title", "seconds", "share", "first", "second", "third", "1.0", "0.5"] {
            assert!(texts.iter().any(|text| text == name), "{name} is missing from {texts:?}");
        }
        // The points, and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 4);
        let bars = svg.matches("opacity=\"0.6\"").count();
        assert_eq!(bars, 4);
    }

    #[test]
    fn greater_values_stand_higher() {
        let svg = plot(vec![series("s", Kind::Dots, &[(0.0, 1.0), (5.0, 9.0)])]).svg().unwrap();
        let at = |name: &str| -> Vec<i32> {
            let circles = svg.split("<circle").skip(1);
            let after =
                |circle: &str| circle.split(&format!(" {name}=\"")).nth(1).map(str::to_owned);
            let values = circles.filter_map(after);
            values.map(|v| v.split('"').next().unwrap().parse().unwrap()).collect()
        };
        let (x, y) = (at("cx"), at("cy"));
        assert!(x[0] < x[1] && y[0] > y[1], "{x:?} {y:?}");
    }

    #[test]
    fn names_are_escaped() {
        let svg = plot(vec![series("a<b & \"c\"\u{7}", Kind::Line, &[(0.0, 0.0), (1.0, 1.0)])]);
        let texts = texts(&svg.svg().unwrap());
        assert!(texts.contains(&"a&lt;b &amp; &quot;c&quot;".to_owned()), "{texts:?}");
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let said = |series| format!("{:#}", plot(series).svg().unwrap_err());
        assert!(said(vec![]).contains("no series"));
        assert!(said(vec![series("void", Kind::Line, &[])]).contains("\"void\" has no points"));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = said(vec![series("odd", Kind::Dots, &[(0.0, 1.0), (1.0, bad)])]);
            assert!(error.contains("A title") && error.contains("\"odd\", point 1"), "{error}");
        }
    }

    #[test]
    fn equal_and_extreme_values_have_axes_too() {
        for value in [0.0, 1.0, -1e9, 1e100, -1e-300] {
            for kind in [Kind::Line, Kind::Dots, Kind::Bars] {
                texts(&plot(vec![series("s", kind, &[(value, value)])]).svg().unwrap());
            }
        }
    }

    #[test]
    fn a_plot_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        plot(vec![series("s", Kind::Line, &[(0.0, 0.0)])]).write(&path).unwrap();
        assert!(fs_err::read_to_string(&path).unwrap().starts_with("<svg"));
        assert!(plot(vec![]).write(&dir.path().join("none.svg")).is_err());
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }
}
