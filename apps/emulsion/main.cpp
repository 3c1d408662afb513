// The emulsion program: picks the verb.
int main() { return 0; }
