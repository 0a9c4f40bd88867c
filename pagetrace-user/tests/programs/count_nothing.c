// As count_objects.c, for whoever loads it; it counts nothing.
int nothing_is_counted;
