/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_ring.c - one-step samplers of a ring of Gaussians: TRACT's schedules beside binary time distillation and
 * the many-step teacher, RMSE to the teacher's end points and sliced Wasserstein distance to fresh data, one CSV
 * row each. Usage: aftermap-tract-ring [SEED [SHARE]]; SHARE of the 6,000 + 8,000 updates, 1 if not given. */
#include "samples/experiments/tract_ring.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *name, *plan;
        enum tract_method method;
    } rows[] = {{"tract 64,8,1", "64,8,1", TRACT_DISTILL},
                {"tract 64,1", "64,1", TRACT_DISTILL},
                {"btd 64,32,16,8,4,2,1", "64,32,16,8,4,2,1", TRACT_BTD},
                {"tract 64,16,4,1", "64,16,4,1", TRACT_DISTILL},
                {"tract 64,32,16,8,4,2,1", "64,32,16,8,4,2,1", TRACT_DISTILL}};
    const double share = argc > 2 ? strtod(argv[2], NULL) : 1;
    const struct ring ring = {.hidden = 128,
                              .batch = 256,
                              .n_judged = 4096,
                              .lr = 5e-4,
                              .teacher_updates = (uint64_t)(6000 * share),
                              .distil_updates = (uint64_t)(8000 * share),
                              .seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0};
    float *teacher = ring_train(&ring, TRACT_TEACHER, NULL, NULL);
    double *many = ring_points(&ring, teacher, 64), *one = ring_points(&ring, teacher, 1);
    double *fresh = ring_data(&ring, 0), *other = ring_data(&ring, (uint64_t)ring.n_judged);
    printf("sampler,calls,rmse_to_teacher,swd_to_data\n");
    printf("\"fresh data\",0,,%.4f\n", ring_swd(&ring, other, fresh));
    printf("\"teacher, 64 steps\",64,0,%.4f\n", ring_swd(&ring, many, fresh));
    printf("\"teacher, 1 step\",1,%.4f,%.4f\n", ring_rmse(&ring, one, many), ring_swd(&ring, one, fresh));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fflush(stdout);
        float *student = ring_train(&ring, rows[i].method, rows[i].plan, teacher);
        double *x = ring_points(&ring, student, 1);
        printf("\"%s\",1,%.4f,%.4f\n", rows[i].name, ring_rmse(&ring, x, many), ring_swd(&ring, x, fresh));
        free(x);
        free(student);
    }
    free(teacher);
    free(many);
    free(one);
    free(fresh);
    free(other);
    return 0;
}
