//! Bars beside each other: cells by systems.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::measured::{Measured, Sample};

const SIZE: (u32, u32) = (1200, 520);

/// One colour for each system, told apart by people who see few colours (Okabe and Ito).
const COLOURS: &[RGBColor] = &[
    RGBColor(153, 153, 153),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
];

/// Draws one figure of all systems in all cells, on a logarithmic axis.
///
/// # Errors
/// The file can't be written.
pub(crate) fn bars(
    path: &Path,
    title: &str,
    cells: &[&Measured],
    figure: impl Fn(&Sample) -> f64,
) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for row in cells.iter().flat_map(|cell| &cell.systems) {
        if !names.contains(&row.system.as_str()) {
            names.push(&row.system);
        }
    }
    let figures = cells.iter().flat_map(|cell| &cell.systems).filter_map(|row| row.median()).map(&figure);
    let most = figures.fold(10.0, f64::max);
    draw(path, title, cells, &names, most, &figure).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(
    path: &Path,
    title: &str,
    cells: &[&Measured],
    names: &[&str],
    most: f64,
    figure: &impl Fn(&Sample) -> f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let group = (names.len() + 1) as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..group * cells.len() as f64, (1.0..most * 1.5).log_scale())?;
    chart.configure_mesh().disable_x_mesh().disable_x_axis().draw()?;
    for (at, name) in names.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let bars = cells.iter().enumerate().filter_map(|(column, cell)| {
            let row = cell.systems.iter().find(|row| row.system == *name)?;
            let value = figure(row.median()?).max(1.0);
            let left = column as f64 * group + at as f64;
            Some(Rectangle::new([(left, 1.0), (left + 0.9, value)], colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    let labels = cells.iter().enumerate().map(|(column, cell)| {
        let style = ("sans-serif", 11).into_font().color(&BLACK);
        Text::new(cell.cell.replace(" connection", " conn"), (column as f64 * group, 1.05), style)
    });
    chart.draw_series(labels)?;
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
