//! Small tables for the terminal: columns as wide as they need, numbers to the right.

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns; `true` for those that are aligned to the right.
    pub fn new(columns: &[(&str, bool)]) -> Table {
        Table {
            rows: vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect()],
            right: columns.iter().map(|(_, right)| *right).collect(),
        }
    }

    /// Adds a row, with as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table, indented, one line a row, a rule below the heading.
    pub fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(&format!("  {}\n", line.trim_end()));
            if number == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                text.push_str(&format!("  {}\n", rule.join("  ")));
            }
        }
        text
    }
}

/// A number with a comma between each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("what", false), ("cost", true)]);
        table.row(["getppid".into(), "76".into()]);
        assert_eq!(table.render(), "  what     cost\n  -------  ----\n  getppid    76\n");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(76), "76");
        assert_eq!(grouped(1_400), "1,400");
        assert_eq!(grouped(2_166_784), "2,166,784");
    }
}
