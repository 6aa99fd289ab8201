"""Token bitmasks: rows of bits, marks behind keys, masks kept by place."""
