const CHOICES = ['auto', 'light', 'dark'] as const;
const LABELS = { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' };

/** Light or dark, as the system has it or as is chosen with the button. */
export function followTheme(button: HTMLButtonElement, changed: () => void): void {
  const system = matchMedia('(prefers-color-scheme: dark)');
  let choice: (typeof CHOICES)[number] = 'auto';
  const apply = () => {
    const dark = choice === 'auto' ? system.matches : choice === 'dark';
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    button.textContent = LABELS[choice];
    changed();
  };
  button.addEventListener('click', () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    apply();
  });
  system.addEventListener('change', apply);
  apply();
}
