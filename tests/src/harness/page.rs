//! A page as its readers see it: narrow and wide, by light and in the dark; and what is wrong with it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::browser::{Browser, Shot, View};
use super::picture::look;

/// How wide the window is, and whether the reader prefers dark pages.
pub type Sight = (u32, bool);

/// Every width in every scheme.
pub const EACH: &[Sight] = &[(400, false), (400, true), (1400, false), (1400, true)];
/// Every width and every scheme once, for pages of which there are many.
pub const ONCE: &[Sight] = &[(400, false), (1400, true)];

/// Names a directory that the pictures are kept in, for people to look at.
const PICTURES: &str = "SOCKTRACE_PICTURES";

/// Words that cannot be read: smaller than nine pixels, or cut off where nothing scrolls. A box of one pixel is
/// meant for who listens to the page.
const UNREADABLE: &str = "(() => {
    const told = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const words = node.textContent.trim();
        const shown = node.parentElement.checkVisibility();
        if (!words || !shown || node.parentElement.closest('script, style')) continue;
        const style = getComputedStyle(node.parentElement);
        const range = document.createRange();
        range.selectNodeContents(node);
        const at = range.getBoundingClientRect();
        const grows = node.parentElement.closest('svg')?.getScreenCTM()?.a ?? 1;
        const size = parseFloat(style.fontSize) * grows;
        if (size < 9) told.push(`${size} pixels: ${words}`);
        for (let box = node.parentElement; box; box = box.parentElement) {
            const overflow = getComputedStyle(box).overflowX;
            if (overflow === 'auto' || overflow === 'scroll') break;
            const cut = overflow === 'hidden' || overflow === 'clip' || box === document.documentElement;
            const around = box.getBoundingClientRect();
            if (around.width <= 1) break;
            if (cut && (at.right > around.right + 1 || at.left < around.left - 1)) {
                told.push(`cut off: ${words}`);
                break;
            }
        }
    }
    return told;
})()";

/// What a page has to show at least.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Different colours.
    pub colours: usize,
    /// Share of pixels that are not paper.
    pub ink: f64,
    /// In which of these it is looked at.
    pub sights: &'static [Sight],
}

/// Looks at a page.
///
/// # Errors
/// What is wrong with it, or that there is no browser.
pub fn is_readable(browser: &mut Browser, page: &Path, name: &str, least: Shown) -> Result<()> {
    for &(width, dark) in least.sights {
        let view = View { dark, ask: UNREADABLE, ..View::wide(width) };
        let shot = browser.shoot(page, view).with_context(|| name.to_owned())?;
        let scheme = if dark { "dark" } else { "light" };
        keep(&shot, &format!("{name}-{width}-{scheme}.png"))?;
        let of = format!("{name}, {width} pixels, {scheme}");
        let problems = problems(&shot);
        ensure!(problems.is_empty(), "{of}: {problems:#?}");
        let seen = look(&shot.png).context(of.clone())?;
        ensure!(seen.width == width && seen.height > 900, "{of}: {seen:?}");
        let shows = seen.colours >= least.colours && seen.ink >= least.ink;
        ensure!(shows, "{of}: nearly blank: {seen:?}");
        ensure!(seen.is_dark() == dark, "{of}: {seen:?}");
    }
    Ok(())
}

fn keep(shot: &Shot, name: &str) -> Result<()> {
    let Some(dir) = std::env::var_os(PICTURES) else { return Ok(()) };
    let path = Path::new(&dir).join(name);
    std::fs::write(&path, &shot.png).with_context(|| path.display().to_string())
}

/// What is wrong with a page.
fn problems(shot: &Shot) -> Vec<String> {
    let mut problems = shot.console_errors.clone();
    problems.extend(shot.requests.iter().map(|url| format!("asked for {url}")));
    if shot.overflow > 0 {
        problems.push(format!("{} pixels too wide", shot.overflow));
    }
    match shot.answer.as_array() {
        Some(unreadable) => problems.extend(unreadable.iter().map(Value::to_string)),
        None => problems.push(format!("no list of what cannot be read: {}", shot.answer)),
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_is_wrong_with_a_page_is_told() {
        let good = Shot {
            png: Vec::new(),
            console_errors: Vec::new(),
            requests: Vec::new(),
            overflow: 0,
            answer: json!([]),
        };
        assert!(problems(&good).is_empty());
        let bad = Shot {
            console_errors: vec!["oh".into()],
            requests: vec!["http://a/".into()],
            overflow: 3,
            answer: json!(["cut off: words"]),
            ..good.clone()
        };
        assert_eq!(problems(&bad).len(), 4);
        assert_eq!(problems(&Shot { answer: json!(null), ..good }).len(), 1);
    }
}
