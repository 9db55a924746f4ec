//! Listings that take two pages. Of the index by a prune (A15): segments of odd and of even number,
//! with compactions between the pages. Of snapshots and leases: what is put and deleted between the
//! pages is seen in part.

use super::prune;
use super::rules::{Rules, TornIndex};
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

/// Lists snapshots, in two pages where the rules say so, and continues with `then`.
pub fn list_snapshots(turn: &mut Turn<'_, '_>, what: &'static str, then: Prune) {
    let state = turn.state;
    let listing = turn.pruner().listing;
    let mut next = *state;
    let page = |is_second: bool| if is_second { 0b1010 } else { 0b0101 };
    if !turn.rules.pages {
        next.pruners[turn.i].live = state.live_chunks();
        return turn.next(next, what, then);
    }
    if listing.stage == 0 {
        for is_reversed in [false, true] {
            let me = &mut next.pruners[turn.i];
            me.live = state.live_chunks_of(page(is_reversed));
            me.listing = Listing {
                stage: 1,
                is_reversed,
                ..Listing::default()
            };
            turn.tell(next, "lists one page of snapshots", None);
        }
        return;
    }
    let me = &mut next.pruners[turn.i];
    me.live |= state.live_chunks_of(page(!listing.is_reversed));
    me.listing = Listing::default();
    turn.next(next, what, then);
}

/// Lists leases at P3. Returns those listed once the listing is complete.
pub fn list_leases(turn: &mut Turn<'_, '_>) -> Option<Set> {
    let state = turn.state;
    let listing = turn.pruner().listing;
    let page = |is_second: bool| if is_second { 0b10 } else { 0b01 };
    if !turn.rules.pages {
        return Some(state.leases);
    }
    if listing.stage != 0 {
        return Some(listing.names | (state.leases & page(!listing.is_reversed)));
    }
    for is_reversed in [false, true] {
        let mut next = *state;
        next.pruners[turn.i].listing = Listing {
            stage: 1,
            names: state.leases & page(is_reversed),
            is_reversed,
            ..Listing::default()
        };
        turn.tell(next, "lists one page of leases", None);
    }
    None
}

/// Returns the choices of the page of segments that a writer lists first, where there are two.
pub fn first_pages(state: &State, rules: &Rules) -> Option<[Segments; 2]> {
    rules
        .pages
        .then_some([state.segments & ODD, (state.segments & EVEN) | EVEN_FIRST])
}

/// Returns the entries of a listing of segments with this first page that ends now.
pub fn entries_after(state: &State, first: Segments) -> Entries {
    state.view((first & NAMES) | (state.segments & !first_page(first))).1
}
