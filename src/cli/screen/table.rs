//! Tables that fit.
//!
//! Role: columns in rows; where there is no room the least important columns go, then the longest cells are cut. Inputs:
//! titles with how dispensable they are, rows. Outputs: lines of a page. Must never import: a clock, a client, `console`.

use unicode_width::UnicodeWidthStr;

use super::{Page, Tone};

/// Between two columns.
const GAP: usize = 2;
/// No cell is cut shorter than this, as long as there is any room.
const SHORTEST: usize = 4;

/// A column: its title, and when it goes: 0 never, else the largest first.
pub(super) type Column = (&'static str, u8);

/// A cell.
pub(super) type Cell = (Tone, String);

/// Draws a table; rows have as many cells as there are columns.
pub(super) fn draw(page: &mut Page, columns: &[Column], rows: &[Vec<Cell>]) {
    let clean: Vec<Vec<Cell>> =
        rows.iter().map(|row| row.iter().map(|(tone, text)| (*tone, page.clean(text))).collect()).collect();
    let room = page.look().width;
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let mut widths = widths(&kept, columns, &clean);
    while total(&widths) > room {
        let least = kept.iter().enumerate().max_by_key(|(_, column)| columns.get(**column).map_or(0, |found| found.1));
        match least.map(|(at, column)| (at, columns.get(*column).map_or(0, |found| found.1))) {
            Some((at, dispensable)) if dispensable > 0 => {
                kept.remove(at);
                widths.remove(at);
            }
            _ => break,
        }
    }
    while total(&widths) > room {
        match widths.iter_mut().max_by_key(|width| **width) {
            Some(widest) if *widest > SHORTEST => *widest -= 1,
            _ => break,
        }
    }
    let heads: Vec<Cell> = columns.iter().map(|(title, _)| (Tone::Dim, (*title).to_owned())).collect();
    for row in std::iter::once(&heads).chain(&clean) {
        let cells: Vec<Cell> =
            kept.iter().zip(&widths).filter_map(|(at, width)| Some(padded(page, row.get(*at)?, *width))).collect();
        page.line(&cells);
    }
}

fn padded(page: &Page, (tone, text): &Cell, width: usize) -> Cell {
    let text = super::cut(text, width, page.look().ascii);
    let pad = " ".repeat((width + GAP).saturating_sub(text.width()));
    (*tone, format!("{text}{pad}"))
}

fn widths(kept: &[usize], columns: &[Column], rows: &[Vec<Cell>]) -> Vec<usize> {
    let title = |at: usize| columns.get(at).map_or(0, |column| column.0.width());
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.1.width()).max().unwrap_or(0);
    kept.iter().map(|at| title(*at).max(widest(*at))).collect()
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}
