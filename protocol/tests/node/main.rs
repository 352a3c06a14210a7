//! Single nodes, event by event: what the simulator's seeds found, and what needs a situation that chance seldom makes.

mod harness;

mod receiving;
mod sealing;
mod sending;
