//! A reader of the page's markup that is stricter than a browser.

/// Balanced tags with quoted attributes, and no character that cannot be seen. Returns the texts and the
/// attributes' values, as a browser takes them.
pub(super) fn parse(page: &str) -> Vec<String> {
    let (head, rest) = page.split_once("<script>").expect("a script");
    let (_, rest) = rest.split_once("</script>").expect("its end");
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = [head, rest].concat();
    // CSS is no markup.
    let style = rest.split_once("<style>").zip(rest.split_once("</style>"));
    rest = style.map(|((before, _), (_, after))| [before, after].concat()).expect("a style");
    let mut rest = rest.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some((text, tag)) = rest.split_once('<') {
        found.push(unescaped(text));
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop().as_deref(),
                Some(closed),
                "after {}",
                &text[text.len().min(40)..]
            );
            continue;
        }
        let name = tag.split([' ', '/']).next().expect("a name");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
        let mut attributes = tag[name.len()..].trim_end_matches('/');
        while let Some((name, value)) = attributes.split_once("=\"") {
            assert!(name.trim().chars().all(|c| c.is_ascii_alphabetic() || c == '-'), "<{tag}>");
            let (value, more) = value.split_once('"').expect("a value ends");
            found.push(unescaped(value));
            attributes = more;
        }
        assert_eq!(attributes.trim(), "", "<{tag}>");
        if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
    found.push(unescaped(rest));
    found
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        plain.push_str(before);
        let (entity, after) = entity.split_once(';').expect("no bare &");
        let number = entity.strip_prefix('#').and_then(|number| number.parse().ok());
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            _ => number.and_then(char::from_u32).expect("a known entity"),
        });
        rest = after;
    }
    plain + rest
}
