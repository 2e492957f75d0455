//! Data as text inside a script element, whatever strings the guest has put into it.
//!
//! Two dangers, two answers. Markup: every `<`, `>` and `&` and the line separators of old JavaScript become `\u`
//! escapes, so that the text holds nothing that an HTML parser looks for (HTML standard, 4.12.1.3). Deceit: control
//! characters and those that turn the direction of writing (Unicode TR 9) are shown as what they are.

use serde::Serialize;

/// Most characters of a guest's string that the page holds.
const LONGEST: usize = 300;

/// JSON that may stand in a script element.
pub fn json<T: Serialize>(value: &T) -> String {
    let plain = serde_json::to_string(value).expect("data without maps of odd keys");
    let mut text = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text
}

/// A guest's string, as long as it may be, with what cannot be seen made visible.
pub fn visible(text: &str) -> String {
    let mut result = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            result.push('…');
            break;
        }
        if hidden(character) {
            result.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
        } else {
            result.push(character);
        }
    }
    result
}

fn hidden(character: char) -> bool {
    let directions = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{feff}')
        || directions.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_the_script_element() {
        let text = json(&["</script><!--", "a & b \u{2028}", "\"\\"]);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, ["</script><!--", "a & b \u{2028}", "\"\\"]);
    }

    #[test]
    fn what_turns_the_writing_is_shown() {
        assert_eq!(visible("a\u{202e}b\n"), "a\\u{202e}b\\u{a}");
        assert_eq!(visible("öß العربية"), "öß العربية");
        assert_eq!(visible(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
