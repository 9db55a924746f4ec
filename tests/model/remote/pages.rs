//! Listings of the index by a prune, where they take two pages (A15): segments of odd and of even
//! number. Compactions may run between the pages.

use super::prune;
use super::rules::TornIndex;
use super::state::*;

const ODD: Segments = 0x2aaa;
const EVEN: Segments = 0x1555;
/// In `Pruner::inputs`: the page that was listed first is that of even numbers.
const EVEN_FIRST: Segments = 0x8000;
const NAMES: Segments = 0x3fff;

/// The page that was listed first.
fn first_page(inputs: Segments) -> Segments {
    if inputs & EVEN_FIRST == 0 { ODD } else { EVEN }
}

/// Stages: 0, the first page; 1, the second one; 2 and 3, the same once more, compared with what
/// was seen. Only [`TornIndex::ListTwice`] has more than the first, since the second page is else
/// listed by the step that uses it.
pub fn list(turn: &mut Turn<'_, '_>, stage: u8, again: bool) {
    let segments = turn.state.segments;
    let mut next = *turn.state;
    let seen = turn.pruner().inputs;
    let page = first_page(seen);
    let to = |stage| Prune::Page { stage, again };
    let then = if again { Prune::SegmentsAgain } else { Prune::Plan };
    match stage {
        0 => {
            let twice = turn.rules.torn == TornIndex::ListTwice;
            for page in [ODD, EVEN] {
                let flag = if page == EVEN { EVEN_FIRST } else { 0 };
                next.pruners[turn.i].inputs = (segments & page) | flag;
                turn.next(next, "lists one page of the index", if twice { to(1) } else { then });
            }
        }
        1 => {
            next.pruners[turn.i].inputs |= segments & !page & NAMES;
            turn.next(next, "lists the other page of the index", to(2));
        }
        _ => {
            let page = if stage == 2 { page } else { !page };
            if (segments ^ seen) & page & NAMES != 0 {
                next.pruners[turn.i].inputs = 0;
                return turn.next(next, "finds the second listing different, lists again", to(0));
            }
            if stage == 2 {
                turn.next(next, "finds the first page the same", to(3));
            } else {
                next.pruners[turn.i].at = At::Next(then);
                prune::step(&next, turn.i, turn.rules, turn.out);
            }
        }
    }
}

/// Returns the entries of the listing that ends now.
pub fn entries(turn: &Turn<'_, '_>) -> Entries {
    let state = turn.state;
    let seen = turn.pruner().inputs;
    match turn.rules.torn {
        TornIndex::No => state.entries(),
        TornIndex::ListTwice => state.view(seen & NAMES).1,
        _ => state.view((seen & NAMES) | (state.segments & !first_page(seen))).1,
    }
}
