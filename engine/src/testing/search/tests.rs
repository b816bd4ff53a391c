//! Histories that have an order, and histories that have none.
