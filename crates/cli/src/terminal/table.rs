//! Tables that fit: when the terminal is narrow, the columns that matter least go first.
//!
//! What is left over wraps in its last column, so that no address is ever broken in two.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};

use super::format::Format;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// 0 stays, whatever happens; of the others the highest goes first.
    pub expendable: u8,
}

/// A column that stays, with text in it.
pub const fn text(name: &'static str) -> Column {
    Column { name, right: false, expendable: 0 }
}

/// A column that stays, with numbers in it.
pub const fn number(name: &'static str) -> Column {
    Column { name, right: true, expendable: 0 }
}

impl Column {
    /// The same column, which may go.
    pub const fn expendable(self, rank: u8) -> Column {
        Column { expendable: rank, ..self }
    }
}

/// Columns between two columns of a table.
const GAP: usize = 2;
/// Columns left of a table.
const INDENT: usize = 2;
/// Fewer columns than this are not enough for the last one of a table.
const LAST: usize = 40;

/// A table as text, indented, with a line end after each row. Rows have a cell for each column.
pub fn render(format: &Format, columns: &[Column], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([columns[column].name.chars().count()]).max().unwrap_or(0)
    };
    let mut kept: Vec<usize> = (0..columns.len())
        .filter(|&column| {
            // A column in which nothing stands says nothing.
            rows.iter().any(|row| !row[column].is_empty())
        })
        .collect();
    loop {
        let Some((&last, others)) = kept.split_last() else { return String::new() };
        let fixed: usize = others.iter().map(|&column| width(column) + GAP).sum();
        if INDENT + fixed + width(last).min(LAST) <= format.width {
            break;
        }
        let goes = kept.iter().copied().filter(|&column| columns[column].expendable > 0);
        let Some(goes) = goes.max_by_key(|&column| columns[column].expendable) else { break };
        kept.retain(|&column| column != goes);
    }

    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(format.width.saturating_sub(INDENT)).unwrap_or(u16::MAX));
    if format.colour {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    let heading = |&column: &usize| Cell::new(columns[column].name).add_attribute(Attribute::Dim);
    table.set_header(kept.iter().map(heading).collect::<Vec<_>>());
    for row in rows {
        table.add_row(kept.iter().map(|&column| Cell::new(&row[column])).collect::<Vec<_>>());
    }
    let last = kept.len() - 1;
    for (place, &column) in kept.iter().enumerate() {
        let shown = table.column_mut(place).expect("as many columns as cells");
        shown.set_padding((0, if place == last { 0 } else { GAP as u16 }));
        if columns[column].right {
            shown.set_cell_alignment(CellAlignment::Right);
        }
        if place != last || columns[column].right {
            let gap = if place == last { 0 } else { GAP };
            let width = (width(column) + gap) as u16;
            shown.set_constraint(comfy_table::ColumnConstraint::Absolute(
                comfy_table::Width::Fixed(width),
            ));
        }
    }
    let lines = table.lines().map(|line| format!("{:INDENT$}{}\n", "", line.trim_end()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [text("address"), number("bytes"), text("physical").expendable(1), text("what")];

    fn rows() -> Vec<Vec<String>> {
        let row = |bytes: &str, what: &str| {
            ["0xffffffff81000000", bytes, "0x1000000", what].map(String::from).to_vec()
        };
        vec![
            row("4,096", "IDT"),
            row("2,097,152", "entry text, shared by all CPUs and rather long to say"),
        ]
    }

    fn rendered(width: usize) -> String {
        render(&Format { width, colour: false, all: false }, &COLUMNS, &rows())
    }

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let text = rendered(120);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  address                 bytes  physical   what");
        assert_eq!(lines[1], "  0xffffffff81000000      4,096  0x1000000  IDT");
    }

    #[test]
    fn narrow_tables_lose_what_matters_least_and_break_no_address() {
        let text = rendered(56);
        assert!(!text.contains("physical"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 56), "{text}");
        assert_eq!(text.matches("0xffffffff81000000").count(), 2, "{text}");
        assert!(text.contains("rather"), "{text}");
    }

    #[test]
    fn an_empty_column_is_left_out() {
        let rows = [vec!["0x1".into(), String::new(), String::new(), "IDT".into()]];
        let text = render(&Format { width: 80, colour: false, all: false }, &COLUMNS, &rows);
        assert!(!text.contains("bytes"), "{text}");
    }
}
