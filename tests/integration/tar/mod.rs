//! Tars, compared with the programs that write and read them.

mod scanning;
mod tools;
