/** Dark or light, as chosen or as the system has it. */
import { computed, signal } from "@preact/signals";
import { state } from "./state";

const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

export const dark = computed(() => state.theme.value === "dark" || (state.theme.value === "auto" && systemDark.value));
