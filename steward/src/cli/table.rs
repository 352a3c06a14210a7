//! Tables for people: columns with a heading, two spaces between, each line cut at the terminal's edge. Programs get
//! `--json`.

use std::io;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::output::{self, Output};

/// A table that grows row by row.
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<(Vec<String>, Style)>,
    styled: usize,
}

const BETWEEN: usize = 2;

impl Table {
    /// A table with these headings. The cell in the column `styled` has the row's colour.
    pub(super) fn new(headings: &[&'static str], styled: &str) -> Self {
        let styled = headings.iter().position(|heading| *heading == styled).unwrap_or(0);
        Self { headings: headings.to_vec(), rows: Vec::new(), styled }
    }

    /// A row; what is in it is made harmless for the terminal.
    pub(super) fn row(&mut self, cells: &[&str], style: Style) {
        self.rows.push((cells.iter().map(|cell| output::one_line(cell)).collect(), style));
    }

    /// Prints it, cut to the width of the terminal if it goes to one.
    pub(super) fn print(&self, output: &mut Output) -> io::Result<()> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.width().max(*width);
            }
        }
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        self.line(output, &widths, &headings, |_| output::FAINT)?;
        for (cells, style) in &self.rows {
            self.line(output, &widths, cells, |column| if column == self.styled { *style } else { Style::new() })?;
        }
        Ok(())
    }

    fn line(
        &self,
        output: &mut Output,
        widths: &[usize],
        cells: &[String],
        style: impl Fn(usize) -> Style,
    ) -> io::Result<()> {
        let mut room = output.width().unwrap_or(usize::MAX);
        let mut line = String::new();
        let mut gap = 0;
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if room <= gap {
                break;
            }
            line.push_str(&" ".repeat(gap));
            room -= gap;
            let shown = cut(cell, room);
            let shown_width = shown.width();
            line.push_str(&output.paint(style(column), &shown));
            room -= shown_width;
            gap = width - shown_width.min(*width) + BETWEEN;
        }
        output.line(line.trim_end())
    }
}

/// At most so many columns of a text; what was cut shows as `…`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut room = columns.saturating_sub(1);
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        shown.push(c);
    }
    if columns > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_what_it_takes_on_the_screen() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("船船船", 4), "船…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["NODE", "STATE"], "STATE");
        table.row(&["船", "done"], output::GOOD);
        table.row(&["ship1", "a\nb"], output::BAD);
        let (mut output, text) = Output::captured(Some(10));
        table.print(&mut output).unwrap();
        assert_eq!(text.text(), "NODE   ST…\n船     do…\nship1  a⏎b\n");
    }
}
