//! Tars, compared with the programs that write and read them.

mod extracting;
mod forge;
mod hostile;
mod scanning;
mod subtree;
mod tools;
