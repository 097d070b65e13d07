"""The board as one page that opens from disk without a network: pictures, tables, pairs, and where
each number is from. `page.to_html` makes it, `site` makes all of them and an index."""
