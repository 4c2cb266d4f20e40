/* R looks for R_init_patina; the Rust library registers the routines. */
void R_init_patina_extendr(void *dll);

void R_init_patina(void *dll) {
  R_init_patina_extendr(dll);
}
