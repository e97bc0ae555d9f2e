//! Columns, laid out as Docker's tables: each column is as wide as its widest cell and three
//! spaces, and never less than ten; the last cell of a line is not padded.

use std::fmt::Write;

/// Go's `tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)`, with which Docker prints.
const MIN_WIDTH: usize = 10;
/// The same for `top`.
const WIDE: usize = 20;
const PADDING: usize = 3;

/// Lays out lines whose cells are separated by tabs. As in Go's tabwriter, a column is a run of
/// neighbouring lines that have a tab behind that cell, so a line without tabs ends all columns.
#[must_use]
pub fn align<S: AsRef<str>>(lines: &[S]) -> String {
    lay_out(lines, MIN_WIDTH)
}

/// [`align`] with columns of twenty or more, as `top` has them.
#[must_use]
pub fn align_wide<S: AsRef<str>>(lines: &[S]) -> String {
    lay_out(lines, WIDE)
}

fn lay_out<S: AsRef<str>>(lines: &[S], least: usize) -> String {
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.as_ref().split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = cells.iter().map(|line| vec![0; line.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or_default();
    for column in 0..columns {
        let mut from = 0;
        while from < cells.len() {
            let run = widths[from..].iter().take_while(|line| line.len() > column).count();
            let widest = cells[from..from + run].iter().map(|line| width(line[column])).max().unwrap_or_default();
            for line in &mut widths[from..from + run] {
                line[column] = (widest + PADDING).max(least);
            }
            from += run.max(1);
        }
    }
    let mut text = String::new();
    for (cells, widths) in cells.iter().zip(&widths) {
        for (cell, wanted) in cells.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell}{:1$}", "", wanted - width(cell));
        }
        text.push_str(cells.last().copied().unwrap_or_default());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_as_dockers() {
        let lines = ["CONTAINER ID\tIMAGE\tNAMES", "aaaaaaaaaaaa\ta\tx"];
        assert_eq!(align(&lines), "CONTAINER ID   IMAGE     NAMES\naaaaaaaaaaaa   a         x\n");
    }

    #[test]
    fn characters_count_not_bytes() {
        assert_eq!(align(&["ééééééééé\tx", "a\ty"]), "ééééééééé   x\na           y\n");
    }

    #[test]
    fn a_line_without_tabs_ends_the_columns() {
        assert_eq!(align(&["aaaaaaaaaaaa\t1", "whole", "b\t2"]), "aaaaaaaaaaaa   1\nwhole\nb         2\n");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(align::<&str>(&[]), "");
    }
}
