//! Lists in one word: `--mount`, `--network`.

/// The fields of one CSV record (RFC 4180): those in double quotes may hold commas, and double
/// quotes written twice.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".into());
    }
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut at_start = true;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().ok_or("EOF")?;
        match c {
            '"' if at_start => loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err("extraneous or missing \" in quoted-field".into()),
                }
            },
            '"' => return Err("bare \" in non-quoted-field".into()),
            ',' => {
                fields.push(String::new());
                at_start = true;
                continue;
            }
            c => field.push(c),
        }
        at_start = false;
    }
    Ok(fields)
}
