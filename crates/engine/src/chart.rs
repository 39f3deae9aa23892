//! Curves as PNG: panels of lines with their ranges, for a run's history and for comparing runs.

use std::convert::Infallible;
use std::io::Cursor;

use dpg_metagrad::metrics::Picture;
use embedded_graphics::{
    Drawable, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoTextStyle, ascii::FONT_7X13},
    pixelcolor::{Rgb888, RgbColor, WebColors},
    prelude::Primitive,
    primitives::{Line, PrimitiveStyle, Rectangle},
    text::{Alignment, Baseline, Text, TextStyleBuilder},
};
use image::{ImageFormat, Rgb, RgbImage};

use crate::History;

/// A panel's size and the room around its lines.
const WIDTH: i32 = 420;
const HEIGHT: i32 = 240;
const LEFT: i32 = 80;
const RIGHT: i32 = 16;
const TOP: i32 = 24;
const BOTTOM: i32 = 22;
/// Height of a line of the legend.
const LEGEND: i32 = 14;

const COLOURS: [Rgb888; 10] = [
    Rgb888::CSS_STEEL_BLUE,
    Rgb888::CSS_CHOCOLATE,
    Rgb888::CSS_SEA_GREEN,
    Rgb888::CSS_CRIMSON,
    Rgb888::CSS_MEDIUM_PURPLE,
    Rgb888::CSS_SADDLE_BROWN,
    Rgb888::CSS_HOT_PINK,
    Rgb888::CSS_DIM_GRAY,
    Rgb888::CSS_DARK_TURQUOISE,
    Rgb888::CSS_GOLDENROD,
];

/// One panel: lines over a common axis.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// Names and points `(x, y)` of the lines; no legend if there is one line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Panels, two in a row, as PNG.
pub fn chart(panels: &[Panel]) -> Vec<u8> {
    const ACROSS: usize = 2;
    let (across, down) = (panels.len().clamp(1, ACROSS), panels.len().div_ceil(ACROSS).max(1));
    let size = (WIDTH as u32 * across as u32, HEIGHT as u32 * down as u32);
    let mut canvas = Canvas(RgbImage::from_pixel(size.0, size.1, Rgb([u8::MAX; 3])));
    for (number, panel) in panels.iter().enumerate() {
        let corner = Point::new(WIDTH * (number % ACROSS) as i32, HEIGHT * (number / ACROSS) as i32);
        let Ok(()) = draw(panel, corner, &mut canvas);
    }
    let mut png = Cursor::new(vec![]);
    canvas.0.write_to(&mut png, ImageFormat::Png).expect("writing a PNG to memory cannot fail");
    png.into_inner()
}

/// What a run's history looks like: Phi, reward spread, entropy, KL, clip fraction, and length.
pub fn curves(history: &History) -> Picture {
    let steps = |title: &str, of: &dyn Fn(&crate::StepRecord) -> f64| {
        let points = history.steps.iter().map(|record| (record.step as f64, of(record))).collect();
        Panel { title: title.into(), lines: vec![(title.into(), points)] }
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

fn draw(panel: &Panel, corner: Point, canvas: &mut Canvas) -> Result<(), Infallible> {
    let size = Size::new((WIDTH - LEFT - RIGHT) as u32, (HEIGHT - TOP - BOTTOM) as u32);
    let frame = Rectangle::new(corner + Point::new(LEFT, TOP), size);
    frame.into_styled(PrimitiveStyle::with_stroke(Rgb888::CSS_LIGHT_GRAY, 1)).draw(canvas)?;
    let points = || panel.lines.iter().flat_map(|(_, points)| points).filter(|(_, y)| y.is_finite());
    let (x, y) = (range(points().map(|point| point.0)), range(points().map(|point| point.1)));
    let write = |text: &str, at: Point, alignment, colour, canvas: &mut Canvas| {
        let style = TextStyleBuilder::new().alignment(alignment).baseline(Baseline::Middle).build();
        let font = MonoTextStyle::new(&FONT_7X13, colour);
        Text::with_text_style(text, at, font, style).draw(canvas).map(drop)
    };
    let (left, right) = (frame.top_left.x, frame.top_left.x + size.width as i32);
    let (top, bottom) = (frame.top_left.y, frame.top_left.y + size.height as i32);
    let middle = Point::new(corner.x + WIDTH / 2, corner.y + TOP / 2);
    write(&panel.title, middle, Alignment::Center, Rgb888::BLACK, canvas)?;
    if points().next().is_none() {
        let middle = Point::new(middle.x, i32::midpoint(top, bottom));
        return write("nothing yet", middle, Alignment::Center, Rgb888::CSS_GRAY, canvas);
    }
    for (value, height) in [(y.0, bottom - 6), (y.1, top + 6)] {
        write(&number(value), Point::new(left - 4, height), Alignment::Right, Rgb888::BLACK, canvas)?;
    }
    for (value, place, alignment) in [(x.0, left, Alignment::Left), (x.1, right, Alignment::Right)] {
        write(&number(value), Point::new(place, bottom + BOTTOM / 2), alignment, Rgb888::BLACK, canvas)?;
    }
    let scale = |value: f64, (low, high): (f64, f64), from: i32, to: i32| {
        from + ((value - low) / (high - low) * f64::from(to - from)).round() as i32
    };
    for (i, (name, points)) in panel.lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let finite = points.iter().filter(|(_, y)| y.is_finite());
        let line: Vec<Point> = finite
            .map(|point| Point::new(scale(point.0, x, left, right), scale(point.1, y, bottom, top)))
            .collect();
        // a polyline's joins overflow where neighbouring pieces are nearly in line
        for piece in line.windows(2) {
            Line::new(piece[0], piece[1]).into_styled(PrimitiveStyle::with_stroke(colour, 2)).draw(canvas)?;
        }
        if panel.lines.len() > 1 {
            let at = Point::new(right - 4, top + 10 + LEGEND * i as i32);
            write(name, at, Alignment::Right, colour, canvas)?;
        }
    }
    Ok(())
}

/// The smallest and the largest value, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low < high { (low, high) } else { (low - 0.5, low + 0.5) }
}

/// A value in few characters.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 4) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
    } else {
        format!("{value:.1e}")
    }
}

/// A picture to draw on.
struct Canvas(RgbImage);

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-2.25, "-2.25"),
            (0.01234, "0.0123"),
            (1500.0, "1500"),
            (2.5e-7, "2.5e-7"),
            (99.96, "99.96"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn lines_go_through_their_points() {
        let lines = vec![
            ("rising".to_owned(), vec![(0.0, 0.0), (10.0, 1.0)]),
            ("level".to_owned(), vec![(0.0, 0.5), (5.0, f64::NAN), (10.0, 0.5)]),
        ];
        let png =
            chart(&[Panel { title: "two".into(), lines }, Panel { title: "none".into(), lines: vec![] }]);
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (2 * WIDTH as u32, HEIGHT as u32));
        let at = |x: i32, y: i32| picture.get_pixel(x as u32, y as u32).0;
        let colour = |i: usize| [COLOURS[i].r(), COLOURS[i].g(), COLOURS[i].b()];
        assert_eq!(at(LEFT + 1, HEIGHT - BOTTOM - 1), colour(0));
        let (middle, quarter) = (TOP + (HEIGHT - TOP - BOTTOM) / 2, LEFT + (WIDTH - LEFT - RIGHT) / 4);
        assert_eq!(at(quarter, middle), colour(1));
        assert_eq!(at(quarter, TOP + 4), [u8::MAX; 3]);
    }
}
