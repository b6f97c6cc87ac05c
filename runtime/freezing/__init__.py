"""x2i inside a program that PyInstaller freezes: what such a program must hold beside what its imports show."""
