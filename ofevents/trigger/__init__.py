"""Step 3 and 4: reads the bus, decides with CEL, owes each subscriber a delivery."""
