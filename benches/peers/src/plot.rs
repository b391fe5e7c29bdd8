//! Bars beside each other: groups by systems.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1300, 520);

/// How much of the width is for the names of the systems.
const LEGEND: u32 = 200;

/// One colour for each system, told apart by people who see few colours (Okabe and Ito).
const COLOURS: &[RGBColor] = &[
    RGBColor(153, 153, 153),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(240, 228, 66),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
];

/// Bars that stand together.
pub(crate) struct Group {
    pub(crate) label: String,
    /// Systems and their figures.
    pub(crate) bars: Vec<(String, f64)>,
}

/// Draws one figure of all systems in all groups, on a logarithmic axis, where there is one that such an axis can show. A system's
/// colour is by its place among `names`.
///
/// # Errors
/// The file can't be written.
pub(crate) fn bars(path: &Path, title: &str, names: &[&str], groups: &[Group]) -> Result<bool> {
    let figures: Vec<f64> =
        groups.iter().flat_map(|group| &group.bars).map(|(_, value)| *value).filter(|it| *it > 0.0).collect();
    if figures.is_empty() {
        return Ok(false);
    }
    let axis = Axis::of(&figures);
    draw(path, title, names, groups, axis).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(true)
}

/// From a power of ten below all figures to a little above the largest.
#[derive(Clone, Copy)]
struct Axis {
    least: f64,
    most: f64,
}

impl Axis {
    fn of(figures: &[f64]) -> Self {
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        // A figure that is a power of ten itself would have no bar.
        let least = 10_f64.powi((least * 0.99).log10().floor() as i32);
        Self { least, most: (most * 1.5).max(least * 10.0) }
    }
}

fn draw(
    path: &Path,
    title: &str,
    names: &[&str],
    groups: &[Group],
    Axis { least, most }: Axis,
) -> Result<(), Box<dyn std::error::Error>> {
    let all = SVGBackend::new(path, SIZE).into_drawing_area();
    all.fill(&WHITE)?;
    let (area, legend) = all.split_horizontally(SIZE.0 - LEGEND);
    let width = (names.len() + 1) as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..width * groups.len() as f64, (least..most).log_scale())?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().disable_x_axis().light_line_style(TRANSPARENT);
    mesh.y_label_formatter(&|value| format!("{value}")).draw()?;
    let mut shown = 0;
    for (at, name) in names.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut bars = Vec::new();
        for (column, group) in groups.iter().enumerate() {
            let Some((_, value)) = group.bars.iter().find(|(system, _)| system == name) else { continue };
            let left = column as f64 * width + at as f64;
            bars.push(Rectangle::new([(left, least), (left + 0.9, value.max(least))], colour.filled()));
        }
        if !bars.is_empty() {
            chart.draw_series(bars)?;
            let top = 50 + 20 * shown;
            legend.draw(&Rectangle::new([(0, top), (12, top + 12)], colour.filled()))?;
            legend.draw(&Text::new(*name, (18, top), ("sans-serif", 12).into_font()))?;
            shown += 1;
        }
    }
    for (column, group) in groups.iter().enumerate() {
        let (x, y) = chart.plotting_area().map_coordinate(&(column as f64 * width, least));
        all.draw(&Text::new(group.label.clone(), (x, y + 8), ("sans-serif", 11).into_font()))?;
    }
    all.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_begins_below_the_smallest_bar() {
        let axis = Axis::of(&[0.1, 15.0]);
        assert!((axis.least - 0.01).abs() < 1e-9, "{}", axis.least);
        assert!((axis.most - 22.5).abs() < 1e-9, "{}", axis.most);
        let axis = Axis::of(&[25.0]);
        assert!((axis.least - 10.0).abs() < 1e-9 && axis.most >= 100.0);
    }
}
