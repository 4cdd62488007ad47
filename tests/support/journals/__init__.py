"""What the journal's tests share: a simulated disk, the crash explorer, journals to damage."""
