//! Tars, compared with the programs that write and read them.

mod forge;
mod hostile;
mod scanning;
mod tools;
