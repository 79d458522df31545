/* A prompt becomes a PNG file. From the repository's root, after `cargo build --release -p muse-c`:
 *
 *   cc bindings/c/examples/generate.c -Ibindings/c -Ltarget/release -lmuse -Wl,-rpath,target/release -o picture
 *   ./picture models/demo "two apples and a cat on a blue background" out.png
 */
#include <stdio.h>
#include <stdlib.h>

#include "muse.h"

static int32_t on_step(const muse_step *step, void *user) {
    (void)user;
    fprintf(stderr, "\r%s %u/%u, %u tokens still masked ", step->stage, step->step + 1, step->steps,
            step->masked);
    return 0; /* anything else would cancel */
}

static void must(muse_status status) {
    if (status != MUSE_OK) {
        fprintf(stderr, "\n%s\n", muse_last_error());
        exit(status);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL PROMPT FILE\n", argv[0]);
        return MUSE_OPTION;
    }
    muse_engine *engine;
    must(muse_engine_load(argv[1], NULL, &engine));

    muse_request request;
    must(muse_request_init(&request, sizeof request));
    request.prompt = argv[2];
    request.on_step = on_step;
    muse_images *images;
    must(muse_generate(engine, &request, &images));

    const uint8_t *png;
    size_t length;
    must(muse_images_png(engine, images, 0, &png, &length));
    FILE *file = fopen(argv[3], "wbx"); /* x: not over a file that exists */
    if (!file || fwrite(png, 1, length, file) != length || fclose(file) != 0) {
        perror(argv[3]);
        return MUSE_IO;
    }
    fprintf(stderr, "\n%s: %zu bytes\n", argv[3], length);

    muse_images_free(images);
    muse_engine_free(engine);
    return 0;
}
