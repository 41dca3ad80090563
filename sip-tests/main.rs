//! Hard messages through reader, framer and writer.

mod torture;
