//! Curves as PNG: panels of lines over axes that fit them, for a run's history and for comparing runs.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Once;

use dpg_metagrad::metrics::Picture;
use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::History;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<BitMapBackend<'static> as DrawingBackend>::ErrorType>>;

/// A panel's size.
const WIDTH: u32 = 820;
const HEIGHT: u32 = 460;
const ACROSS: usize = 2;
/// Height of text.
const TITLE: u32 = 22;
const TEXT: u32 = 16;
/// Lines of so few points show them.
const FEW: usize = 60;
const FONT: &str = "DejaVu Sans";

/// The palette of Okabe and Ito, which the colour-blind can tell apart, without its yellow, which a white ground
/// swallows. A line after the seventh is dashed.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
const GREY: RGBColor = RGBColor(120, 120, 120);

/// One panel: lines over a common axis.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// What goes to the right.
    pub across: String,
    /// Names and points `(x, y)` of the lines; no legend if there is one line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Panels, two in a row, as PNG.
pub fn chart(panels: &[Panel]) -> Vec<u8> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let font = include_bytes!("chart/DejaVuSans.ttf");
        assert!(register_font(FONT, FontStyle::Normal, font).is_ok(), "the font is one");
    });
    let (across, down) = (panels.len().clamp(1, ACROSS), panels.len().div_ceil(ACROSS).max(1));
    let size = (WIDTH * across as u32, HEIGHT * down as u32);
    let mut pixels = RgbImage::new(size.0, size.1);
    let draw_all = |pixels: &mut [u8]| {
        let root = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((down, across))) {
            draw(panel, &area)?;
        }
        root.present()
    };
    let drawn: Drawn = draw_all(&mut pixels);
    drawn.expect("drawing to memory with a font of our own cannot fail");
    let mut png = Cursor::new(vec![]);
    pixels.write_to(&mut png, ImageFormat::Png).expect("writing a PNG to memory cannot fail");
    png.into_inner()
}

/// What a run's history looks like: Phi, reward spread, entropy, KL, clip fraction, and length.
pub fn curves(history: &History) -> Picture {
    let steps = |title: &str, of: &dyn Fn(&crate::StepRecord) -> f64| {
        let points = history.steps.iter().map(|record| (record.step as f64, of(record))).collect();
        Panel { title: title.into(), across: "step".into(), lines: vec![(title.into(), points)] }
    };
    let mut phi = steps("Phi", &|record| record.score.value);
    let validations = history.validations.iter().map(|record| (record.step as f64, record.score.value));
    phi.lines = vec![
        ("steps".into(), std::mem::take(&mut phi.lines[0].1)),
        ("validations".into(), validations.collect()),
    ];
    let panels = [
        phi,
        steps("reward sd", &|record| record.reward_std),
        steps("entropy, nats a token", &|record| record.update.entropy),
        steps("KL to the initial generator", &|record| record.update.kl),
        steps("clip fraction", &|record| record.update.clip_fraction),
        steps("tokens a completion", &|record| record.length.unwrap_or(f64::NAN)),
    ];
    Picture { name: "curves".into(), png: chart(&panels) }
}

fn draw(panel: &Panel, area: &Area) -> Drawn {
    let points = || panel.lines.iter().flat_map(|(_, points)| points).filter(|point| is_drawn(point));
    let area = area.margin(8, 0, 0, 0).titled(&panel.title, (FONT, TITLE))?;
    if points().next().is_none() {
        let (width, height) = area.dim_in_pixel();
        let style = text(&GREY).pos(Pos::new(HPos::Center, VPos::Center));
        return area.draw_text("nothing yet", &style, (width as i32 / 2, height as i32 / 2));
    }
    let (area, legend) = beside(panel, area)?;
    let (x, y) =
        (Axis::of(points().map(|point| point.0), 0.0), Axis::of(points().map(|point| point.1), 0.04));
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(96)
        .build_cartesian_2d(x.range(), y.range())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style((FONT, TEXT))
        .x_desc(&panel.across)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .draw()?;
    for (i, (_, points)) in panel.lines.iter().enumerate() {
        let line: Vec<_> =
            points.iter().filter(|point| is_drawn(point)).map(|(a, b)| (a / x.unit, b / y.unit)).collect();
        let dots = if line.len() <= FEW { line.clone() } else { vec![] };
        let colour = COLOURS[i % COLOURS.len()];
        if i < COLOURS.len() {
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        } else {
            chart.draw_series(DashedLineSeries::new(line, 8, 6, colour.stroke_width(2)))?;
        }
        chart.draw_series(dots.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    let Some(legend) = legend else { return Ok(()) };
    for (i, (name, _)) in panel.lines.iter().enumerate() {
        let (colour, height) = (COLOURS[i % COLOURS.len()], 24 + (TEXT as i32 + 8) * i as i32);
        // dashed as the line is
        let pieces: &[(i32, i32)] =
            if i < COLOURS.len() { &[(0, 26)] } else { &[(0, 7), (10, 17), (20, 26)] };
        for (from, to) in pieces {
            legend.draw(&PathElement::new([(*from, height), (*to, height)], colour.stroke_width(3)))?;
        }
        let style = text(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw_text(name, &style, (34, height))?;
    }
    Ok(())
}

/// The room for the lines, and at its right that for their names if there are several.
fn beside<'a>(
    panel: &Panel,
    area: Area<'a>,
) -> Result<
    (Area<'a>, Option<Area<'a>>),
    DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>,
> {
    if panel.lines.len() < 2 {
        return Ok((area, None));
    }
    let mut widest = 0;
    for (name, _) in &panel.lines {
        widest = widest.max(area.estimate_text_size(name, &text(&BLACK))?.0);
    }
    let (width, _) = area.dim_in_pixel();
    let (lines, legend) = area.split_horizontally(width.saturating_sub(widest + 50).max(WIDTH / 2));
    Ok((lines, Some(legend)))
}

fn text(colour: &RGBColor) -> TextStyle<'_> {
    TextStyle::from((FONT, TEXT).into_font()).color(colour)
}

/// Whether a point can stand on an axis.
fn is_drawn(point: &(f64, f64)) -> bool {
    point.0.abs() < 1e100 && point.1.abs() < 1e100
}

/// An axis that fits its values. Places on it are values in units of their spread's power of ten: plotters marks no
/// values that lie closer together than 2e-16, and rewards do.
struct Axis {
    low: f64,
    high: f64,
    unit: f64,
}

impl Axis {
    /// The axis of these values, with a share of their spread as room on either side.
    fn of(values: impl Iterator<Item = f64>, room: f64) -> Self {
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let size = low.abs().max(high.abs());
        // what does not differ in nine digits is one value
        let (low, high) = if high - low > size * 1e-9 {
            let room = room * (high - low);
            (low - room, high + room)
        } else {
            let around = if size > 0.0 { size * 0.1 } else { 1.0 };
            (low - around, high + around)
        };
        Self { low, high, unit: 10_f64.powi((high - low).log10().floor() as i32) }
    }

    fn range(&self) -> Range<f64> {
        self.low / self.unit..self.high / self.unit
    }

    /// The value at a place, with as many digits as tell the labels apart.
    fn label(&self, place: f64) -> String {
        let (value, size) = (place * self.unit, self.low.abs().max(self.high.abs()));
        let finest = self.unit.log10().round() as i32 - 1;
        if (1e-3..1e6).contains(&size) {
            let text = format!("{value:.*}", usize::try_from(-finest).unwrap_or(0));
            let text =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            return if text == "-0" { "0".into() } else { text.into() };
        }
        if place.abs() < 1e-6 {
            return "0".into();
        }
        let digits = value.abs().log10().floor() as i32 - finest;
        let text = format!("{value:.*e}", usize::try_from(digits).unwrap_or(0));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let short = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        format!("{short}e{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels of an axis over these values, at its ends and halfway.
    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::of(values.iter().copied(), 0.0);
        let Range { start, end } = axis.range();
        [start, f64::midpoint(start, end), end].map(|place| axis.label(place)).to_vec()
    }

    #[test]
    fn labels_are_short_and_tell_places_apart() {
        for (values, expected) in [
            ([0.0, 100.0], ["0", "50", "100"]),
            ([-2.3064, -2.3012], ["-2.3064", "-2.3038", "-2.3012"]),
            ([2e-9, 4e-9], ["2e-9", "3e-9", "4e-9"]),
            ([1e-20, 3e-20], ["1e-20", "2e-20", "3e-20"]),
            ([-1e-9, 1e-9], ["-1e-9", "0", "1e-9"]),
            ([5.0, 5.0], ["4.5", "5", "5.5"]),
            ([0.0, 0.0], ["-1", "0", "1"]),
            ([2e6, 4e6], ["2e6", "3e6", "4e6"]),
        ] {
            assert_eq!(labels(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn lines_stand_in_their_colours_and_fill_the_room() {
        let rising = vec![(0.0, 0.0), (10.0, 1.0)];
        let level = vec![(0.0, 0.5), (5.0, f64::NAN), (10.0, 0.5)];
        let lines = vec![("rising".to_owned(), rising), ("level".to_owned(), level)];
        let panel = Panel { title: "two".into(), across: "step".into(), lines };
        let png = chart(&[panel, Panel { title: "none".into(), ..Panel::default() }]);
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (2 * WIDTH, HEIGHT));
        // where a colour is left of the legend: from, to, top, bottom
        let extent = |colour: RGBColor| {
            let of_it = |(x, _, pixel): &(u32, u32, &image::Rgb<u8>)| {
                *x < WIDTH - 150 && pixel.0 == [colour.0, colour.1, colour.2]
            };
            let found: Vec<_> = picture.enumerate_pixels().filter(of_it).map(|(x, y, _)| (x, y)).collect();
            let of = |values: Vec<u32>| (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            (of(found.iter().map(|at| at.0).collect()), of(found.iter().map(|at| at.1).collect()))
        };
        let (across, down) = extent(COLOURS[0]);
        assert!(across.1 - across.0 > WIDTH / 2, "{across:?}");
        assert!(down.1 - down.0 > HEIGHT / 2, "{down:?}");
        // the gap of a level line is bridged
        let (bridged, flat) = extent(COLOURS[1]);
        assert!(bridged.1 - bridged.0 > WIDTH / 2 && flat.1 - flat.0 < 10, "{bridged:?} {flat:?}");
        let right = picture.enumerate_pixels().filter(|(x, ..)| *x > WIDTH);
        assert!(right.clone().any(|(.., pixel)| pixel.0 == [0; 3]), "a panel without lines has a title");
        assert!(right.clone().all(|(.., pixel)| pixel.0 != [0, 114, 178]));
    }
}
